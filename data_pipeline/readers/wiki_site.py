"""What a MediaWiki site calls its files, categories and redirects, and how it converts variants.

A dump's ``<siteinfo>`` names the namespaces in the site's language. It lacks their aliases, which
pages use as well: files are known by their suffix whatever the alias, categories by a list.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_MEDIA, _FILE, _CATEGORY = "-2", "6", "14"
# What MediaWiki itself calls categories in its languages, and the English names, which hold
# everywhere. Needed where a site's primary name is another one, such as zh.wikipedia's "Category".
_ENGLISH = ("media", "file", "image", "category")
_CATEGORIES = (
    "catagóir", "categoria", "categoría", "categorie", "catégorie", "categori",
    "flokkur", "jamii", "kategori", "kategoria", "kategória", "kategorie", "kategorija",
    "kategorio", "kategorya", "kategooria", "kateqoriya", "luokka", "thể loại",
    "turkum", "κατηγορία", "ангилал", "категорија", "категория", "категорія",
    "катэгорыя", "санат", "төркем", "կատեգորիա", "კატეგორია", "קטגוריה", "קט", "تصنيف",
    "رده", "زمرہ", "श्रेणी", "वर्ग", "বিষয়শ্রেণী", "ਸ਼੍ਰੇਣੀ", "શ્રેણી", "பகுப்பு",
    "వర్గం", "ವರ್ಗ", "വർഗ്ഗം", "ප්‍රවර්ගය", "หมวดหมู่", "ໝວດ", "ကဏ္ဍ",
    "ចំណាត់ថ្នាក់ក្រុម", "መደብ", "분류", "カテゴリ", "分类", "分類",
)  # fmt: skip
_MEDIA_FILE = re.compile(
    r"\.(?:jpe?g|png|gif|svg|tiff?|webp|xcf|bmp|pdf|djvu?|og[gavx]|opus|oga|flac|wav|mp3|mid|webm|"
    r"mp4|mpe?g|stl)\s*$",
    re.IGNORECASE,
)
# Links to other languages, which MediaWiki shows beside the page: [[de:...]], [[be-tarask:...]].
_LANGUAGE = re.compile(r"(?:[a-z]{2,3}(?:-[a-z-]+)?|simple)", re.IGNORECASE)
# "#REDIRECT [[Page]]" in any language; MediaWiki takes a colon before the link too.
_REDIRECT = re.compile(r"\s*[#＃]\s?[^\s\[\]|#]+(?: [^\s\[\]|#]+){0,2}\s*:?\s*\[\[[^\[\]]*\]\]")

# Variants in the order of preference; of other sites' variants the first that a text names.
_VARIANTS = {
    "zh": ("zh", "zh-hans", "zh-cn", "zh-sg", "zh-my", "zh-hant", "zh-tw", "zh-hk", "zh-mo"),
    "sr": ("sr", "sr-ec", "sr-cyrl", "sr-el", "sr-latn"),
}
_CONVERTING = {*_VARIANTS, "ban", "crh", "gan", "iu", "kk", "ku", "sh", "shi", "tg", "tly", "uz"}
_CONVERTING |= {"wuu", "zgh"}
_INNERMOST = re.compile(r"-\{(?!\{)((?:(?!-\{|\}-).)*)\}-", re.DOTALL)
_CODE = r"[a-z]{2,3}(?:-[a-z]+)*"
_FLAG = rf"(?:[A-Z-]|{_CODE})"
_FLAGS = re.compile(rf"\s*({_FLAG}(?:\s*;\s*{_FLAG})*)?\s*\|")
_NEXT_VARIANT = re.compile(rf";\s*(?=(?:[^;:]*=>\s*)?{_CODE}\s*:)")
_VARIANT = re.compile(rf"\s*(?:[^:]*=>\s*)?({_CODE})\s*:(.*)", re.DOTALL)
_DEPTH = 5


@dataclass(frozen=True)
class Site:
    """A site's names for what its pages do not show (case-folded), and its language."""

    hidden: frozenset[str] = frozenset({*_ENGLISH, *_CATEGORIES})
    language: str = ""

    @classmethod
    def of(cls, siteinfo: Any, language: str) -> "Site":
        """Read the names in an XML element ``<siteinfo>``."""
        names = {
            (space.text or "")
            for space in siteinfo.iterfind("{*}namespaces/{*}namespace")
            if space.get("key") in (_MEDIA, _FILE, _CATEGORY)
        }
        return cls(cls.hidden | {_folded(name) for name in names if name.strip()}, language)

    def hides(self, target: str) -> bool:
        """Return whether a page shows nothing for a link: a file, a category, another language."""
        space, colon, rest = target.partition(":")
        if not colon or not space.strip():
            return False  # [[:Category:Name]] is a link like any other
        if _folded(space) in self.hidden or _LANGUAGE.fullmatch(space.strip()):
            return True
        return bool(_MEDIA_FILE.search(rest))

    def converted(self, markup: str) -> str:
        """Return markup with one variant of every ``-{...}-``, of a site that converts."""
        base = self.language.split("-")[0]
        if base not in _CONVERTING or "-{" not in markup:
            return markup
        wanted = _VARIANTS.get(base, ())
        for _ in range(_DEPTH):
            changed = _INNERMOST.sub(lambda found: _variant(found.group(1), wanted), markup)
            if changed == markup:
                break
            markup = changed
        return markup


def redirect_end(markup: str) -> int:
    """Return where the redirect ends that a page begins with, 0 if it seems to be none.

    A list's first line may look the same, so a page is one only if it shows nothing else.
    """
    found = _REDIRECT.match(markup)
    return found.end() if found else 0


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _variant(rule: str, wanted: Iterable[str]) -> str:
    """Return what one conversion rule shows.

    Rules that only teach the converter (flags H, T, D and -) show nothing.
    """
    flags = _FLAGS.match(rule)
    if flags:
        rule = rule[flags.end() :]
        if {"H", "T", "D", "-"} & {flag.strip() for flag in (flags.group(1) or "").split(";")}:
            return ""
    parts = [_VARIANT.fullmatch(part) for part in _NEXT_VARIANT.split(rule.strip().rstrip(";"))]
    texts = {part.group(1): part.group(2).strip() for part in parts if part}
    if not texts or not all(parts):
        return rule
    return next((texts[code] for code in wanted if code in texts), next(iter(texts.values())))
