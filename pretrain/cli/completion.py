"""What the shell offers behind a half-written word; nothing heavy is loaded for it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin


def _starting(found: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in found if name.startswith(incomplete)})


def _below(incomplete: str, pattern: str) -> Iterator[Path]:
    """Yield what matches ``pattern`` in the folder that is being written, and its folders."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        yield from folder.glob(pattern)
        yield from (path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _runs(incomplete: str) -> Iterator[str]:
    """Yield run directories, and the folders in which there may be some with a slash behind."""
    for path in _below(incomplete, "*"):
        if path.is_dir() and not path.name.startswith("."):
            yield str(path) if _is_run(path) else f"{path}/"
    yield from (str(path.parent) for path in Path("runs").glob("*/config.yaml"))


def runs(incomplete: str) -> list[str]:
    """Complete a run directory."""
    return _starting(_runs(incomplete), incomplete)


def recipes(incomplete: str) -> list[str]:
    """Complete a shipped recipe, a YAML file or a run directory."""
    from convbert.pretrain.settings.recipes import recipe_names

    files = (str(path) for path in _below(incomplete, "*.y*ml") if path.is_file())
    return _starting([*recipe_names(), *files, *_runs(incomplete)], incomplete)


def settings(incomplete: str) -> list[str]:
    """Complete the key of a run's setting, and behind its ``=`` the values that may be chosen.

    Where two words are offered, shells put no blank behind what they share: of a key that is known,
    the default is shown, too.
    """
    from convbert.models.faults import setting_paths
    from convbert.pretrain.settings.run import RunConfig

    paths = list(setting_paths(RunConfig))
    inner = {path.rpartition(".")[0] for path in paths}
    known = [path for path in paths if path not in inner]
    word, split_off = _before_cursor(incomplete)
    key, equals, value = word.partition("=")
    if equals:
        values = _starting(_values(key) if key in known else [], value)
        return [f"{word[split_off : len(key) + 1]}{found}" for found in values]
    found = _starting((f"{path}=" for path in known), incomplete)
    if len(found) != 1:
        return found
    return [*found, f"{found[0]}{_default(found[0].removesuffix('='))}"]


def _before_cursor(incomplete: str) -> tuple[str, int]:
    """Return the word that is being written, and how much of it bash takes for other words.

    For bash a ``=`` is a word of its own (COMP_WORDBREAKS), and what is offered replaces only what
    stands behind it.
    """
    text, position = os.environ.get("COMP_WORDS", ""), os.environ.get("COMP_CWORD", "")
    words = text.split("\n" if "\n" in text else None)
    number = int(position) if position.isdecimal() else 0
    if words[number : number + 1] == ["="] and number > 1:
        return f"{words[number - 1]}=", len(words[number - 1]) + 1
    if words[number - 1 : number] == ["="] and number > 2:
        return f"{words[number - 2]}={incomplete}", len(words[number - 2]) + 1
    return incomplete, 0


def _values(path: str) -> list[str]:
    """Return what a setting may be, or its default where that is written in one word."""
    from convbert.pretrain.settings.run import RunConfig

    kind: Any = RunConfig
    for name in path.split("."):
        models = (kind, *get_args(kind))
        model = next(m for m in models if isinstance(m, type) and hasattr(m, "model_fields"))
        kind = model.model_fields[name].annotation
    kinds = (kind, *get_args(kind))
    choices = [choice for k in kinds if get_origin(k) is Literal for choice in get_args(k)]
    choices += ["true", "false"] if bool in kinds else []
    choices += ["null"] if choices and type(None) in kinds else []
    default = _default(path)
    return [str(choice) for choice in choices] or [default] * (default != "...")


def _default(path: str) -> str:
    """Return the default of a setting as it is written, ``...`` where it is nothing or long."""
    import json

    from convbert.pretrain.settings.run import RunConfig

    value: Any = RunConfig().model_dump(mode="json")
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    simple = isinstance(value, str | bool | int | float)
    return value if isinstance(value, str) else json.dumps(value) if simple else "..."


def tasks(incomplete: str) -> list[str]:
    """Complete a task of the package, or a YAML file."""
    from convbert.pretrain.finetune.task import packaged_tasks

    files = (str(path) for path in _below(incomplete, "*.y*ml") if path.is_file())
    return _starting([*packaged_tasks(), *files], incomplete)


def corpora(incomplete: str) -> list[str]:
    """Complete a corpus that can be fetched."""
    from convbert.data_pipeline.corpora import CORPORA

    return _starting([*CORPORA, "all"], incomplete)


def sites(incomplete: str) -> list[str]:
    """Complete a site profile of the package, or a YAML file."""
    from convbert.cluster.site import site_names

    files = (str(path) for path in _below(incomplete, "*.y*ml") if path.is_file())
    return _starting([*site_names(), *files], incomplete)
