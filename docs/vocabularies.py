"""Train tokenizers of several sizes and languages, and write the table on planning.md.

``python docs/vocabularies.py FOLDER`` fetches LibreOffice's help pages (Debian packages, network),
takes their text, trains on nine tenths and measures the rest.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from resiliparse.extract.html2text import extract_plain_text

DOCS = Path(__file__).parent
LANGUAGES = {
    "en-us": "English",
    "de": "German",
    "fi": "Finnish",
    "tr": "Turkish",
    "ru": "Russian",
    "hi": "Hindi",
    "zh-cn": "Chinese",
}
SIZES = (4000, 8000, 16_000)


def text_of(language: str, folder: Path) -> tuple[Path, Path]:
    """Fetch a language's pages; return JSON lines to train on and to measure."""
    parts = folder / f"{language}-train.jsonl", folder / f"{language}-rest.jsonl"
    if not parts[1].exists():
        name = f"libreoffice-help-{language}"
        subprocess.run(["apt-get", "-qq", "download", name], cwd=folder, check=True)
        package = next(folder.glob(f"{name}_*.deb"))
        subprocess.run(["dpkg-deb", "--extract", package, language], cwd=folder, check=True)
        pages = sorted((folder / language).rglob("*.html"))
        texts = [extract_plain_text(p.read_text(), main_content=True) for p in pages]
        rows = [json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in dict.fromkeys(texts)]
        parts[0].write_text("".join(r for n, r in enumerate(rows) if n % 10))
        parts[1].write_text("".join(rows[::10]))
    return parts


def fertility(language: str, size: int, folder: Path) -> float | None:
    """Return the tokens per word of a tokenizer of ``size`` ids; None where text is too little."""
    train, rest = text_of(language, folder)
    made = folder / f"{language}-{size}"
    convbert = str(Path(sys.executable).parent / "convbert")
    if not made.exists():
        command = [convbert, "tokenizer", "train", str(train), "-o", str(made), "--vocab-size"]
        if subprocess.run([*command, str(size)], check=False).returncode:
            return None
    command = [convbert, "tokenizer", "report", str(made), str(rest), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(done.stdout)["fertility"])


def main() -> None:
    """Measure all languages and sizes, and write the table."""
    folder = Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["| tokens per word with | " + " | ".join(f"{size:,} ids" for size in SIZES) + " |"]
    rows += ["| --- |" + " ---: |" * len(SIZES)]
    for language, name in LANGUAGES.items():
        values = [fertility(language, size, folder) for size in SIZES]
        cells = ["" if value is None else f"{value:.2f}" for value in values]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    table = "\n".join(rows)
    page = DOCS / "planning.md"
    marks = re.compile(r"(<!-- vocabularies -->\n).*(<!-- /vocabularies -->)", re.S)
    page.write_text(marks.sub(lambda m: f"{m[1]}\n{table}\n\n{m[2]}", page.read_text()))


if __name__ == "__main__":
    main()
