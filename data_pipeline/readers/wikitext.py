"""The prose of a page written in MediaWiki's markup, parsed by mwparserfromhell.

Kept: text, headings on lines of their own, the labels of links, list items. Left out: templates
(infoboxes, citations, navigation), tables, references, files, categories, comments, formulas and
code, which are no prose and would need MediaWiki to expand.
"""

import re
from typing import Any

from convbert.data_pipeline.extras import load_extra

_DROPPED_TAGS = {
    "ref", "references", "table", "gallery", "math", "chem", "syntaxhighlight", "source", "code",
    "pre", "timeline", "imagemap", "score", "hiero", "graph", "mapframe", "templatedata", "style",
    "script", "noinclude", "includeonly",
}  # fmt: skip
_BREAKING_TAGS = {"br", "p", "li", "dt", "dd", "div", "blockquote", "hr"}
# [[File:...]], [[Category:...]], and links to other languages such as [[de:...]], which MediaWiki
# does not show in the text; [[:Category:...]] it does.
_HIDDEN_LINK = re.compile(r"\s*(?:file|image|media|category|[a-z]{2,3}(?:-[a-z-]+)?)\s*:", re.I)
_MAGIC_WORD = re.compile(r"__[A-Z]+__")


def prose(markup: str) -> str:
    """Return the text of a page, paragraphs separated by blank lines."""
    parser = load_extra("mwparserfromhell", "corpus", "reading MediaWiki dumps")
    parts: list[str] = []
    _render(parser.parse(markup, skip_style_tags=True), parts, parser.nodes)
    text = re.sub(r"'{2,5}", "", _MAGIC_WORD.sub("", "".join(parts)))
    lines = (re.sub(r"[ \t]+", " ", line).strip(" \t*#:;") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _render(code: Any, parts: list[str], nodes: Any) -> None:
    """Append the visible text of parsed markup."""
    for node in code.nodes:
        if isinstance(node, nodes.Text):
            parts.append(node.value)
        elif isinstance(node, nodes.Wikilink):
            if not _HIDDEN_LINK.match(str(node.title)):
                _render(node.text if node.text is not None else node.title, parts, nodes)
        elif isinstance(node, nodes.ExternalLink):
            if node.title is not None:
                _render(node.title, parts, nodes)
        elif isinstance(node, nodes.Heading):
            parts.append("\n\n")
            _render(node.title, parts, nodes)
            parts.append("\n\n")
        elif isinstance(node, nodes.HTMLEntity):
            parts.append(node.normalize())
        elif isinstance(node, nodes.Tag):
            _render_tag(node, parts, nodes)


def _render_tag(tag: Any, parts: list[str], nodes: Any) -> None:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return
    if name in _BREAKING_TAGS and not tag.wiki_markup:
        parts.append("\n")
    if tag.contents is not None:
        _render(tag.contents, parts, nodes)
