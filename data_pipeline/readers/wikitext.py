"""The prose of a page written in MediaWiki's markup, parsed by mwparserfromhell.

Kept: text, headings on lines of their own, the labels of links, list items. Left out: templates
(infoboxes, citations, navigation), tables, references, files, categories, comments, formulas and
code, which are no prose and would need MediaWiki to expand.
"""

import re
from typing import Any

import regex

from convbert.data_pipeline.extras import load_extra
from convbert.data_pipeline.readers.wiki_site import Site

_DROPPED_TAGS = {
    "ref", "references", "table", "gallery", "math", "chem", "syntaxhighlight", "source", "code",
    "pre", "timeline", "imagemap", "score", "hiero", "graph", "mapframe", "templatedata", "style",
    "script", "noinclude", "includeonly",
}  # fmt: skip
_BREAKING_TAGS = {"br", "p", "li", "dt", "dd", "div", "blockquote", "hr"}
# __NOTOC__ and its like in any language: some scripts have no capitals, but none are small letters.
# English ones count in small letters too.
_MAGIC_WORD = regex.compile(
    r"[_＿]{2}(?:[^\W_＿\p{Ll}]+(?:_[^\W_＿\p{Ll}]+)*|"
    r"(?i:(?:no|force)?toc|noeditsection|nogallery|(?:no)?index))[_＿]{2}"
)
_SITE = Site()


def prose(markup: str, site: Site = _SITE) -> str:
    """Return the text of a page of a site, paragraphs separated by blank lines."""
    parser = load_extra("mwparserfromhell", "corpus", "reading MediaWiki dumps")
    parts: list[str] = []
    parsed = parser.parse(site.converted(markup), skip_style_tags=True)
    _render(parsed, parts, parser.nodes, site)
    text = re.sub(r"'{2,5}", "", _MAGIC_WORD.sub("", "".join(parts)))
    lines = (re.sub(r"[ \t]+", " ", line).strip(" \t*#:;") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _render(code: Any, parts: list[str], nodes: Any, site: Site) -> None:
    """Append the visible text of parsed markup."""
    for node in code.nodes:
        if isinstance(node, nodes.Text):
            parts.append(node.value)
        elif isinstance(node, nodes.Wikilink):
            # Only files have several options: one under an old name of their namespace.
            options = node.text is not None and "|" in str(node.text) and ":" in str(node.title)
            if not options and not site.hides(str(node.title)):
                _render(node.text if node.text is not None else node.title, parts, nodes, site)
        elif isinstance(node, nodes.ExternalLink):
            if node.title is not None:
                _render(node.title, parts, nodes, site)
        elif isinstance(node, nodes.Heading):
            parts.append("\n\n")
            _render(node.title, parts, nodes, site)
            parts.append("\n\n")
        elif isinstance(node, nodes.HTMLEntity):
            parts.append(node.normalize())
        elif isinstance(node, nodes.Tag):
            _render_tag(node, parts, nodes, site)


def _render_tag(tag: Any, parts: list[str], nodes: Any, site: Site) -> None:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return
    if name in _BREAKING_TAGS and not tag.wiki_markup:
        parts.append("\n")
    if tag.contents is not None:
        _render(tag.contents, parts, nodes, site)
