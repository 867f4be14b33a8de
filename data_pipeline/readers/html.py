"""The text of a web page, by resiliparse."""

from typing import Literal

from convbert.data_pipeline.extras import load_extra


def page_decode(content: bytes, charset: str | None) -> str:
    """Decode by the charset that a server claims, or else a guess; misfits are replaced."""
    encoding = load_extra("resiliparse.parse.encoding", "corpus", "reading web pages")
    text: str = encoding.bytes_to_str(content, charset or encoding.detect_encoding(content))
    return text


def page_text(html: str, part: Literal["main", "all"]) -> str:
    """Return paragraphs in lines: of the main content, or of everything visible."""
    extract = load_extra("resiliparse.extract.html2text", "corpus", "reading web pages")
    text: str = extract.extract_plain_text(
        html,
        main_content=part == "main",
        alt_texts=False,
        list_bullets=False,
    )
    return text
