"""Dumps of wikis in many languages, with the words that MediaWiki's messages give each of them."""

from pathlib import Path
from xml.sax.saxutils import escape

import pytest

from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.readers import (
    ReaderOptions,
    input_files,
    read_documents,
    read_file,
    split_file,
)
from convbert.data_pipeline.readers.wiki_site import Site
from convbert.data_pipeline.readers.wikitext import prose

# Names of namespaces 6 and 14, an alias for files, the image option for a thumbnail, the word of
# a redirect and of a page without table of contents, and a sentence.
WIKIS = {
    "de": ("Datei", "Kategorie", "Bild", "mini|hochkant=1.2", "#WEITERLEITUNG",
           "__KEIN_INHALTSVERZEICHNIS__", "Die Stadt liegt an der Spree."),
    "fr": ("Fichier", "Catégorie", "Image", "vignette|redresse=1.2", "#REDIRECTION",
           "__SANSSOMMAIRE__", "La ville est sur la Seine."),
    "es": ("Archivo", "Categoría", "Imagen", "miniaturadeimagen", "#REDIRECCIÓN", "__SIN_TDC__",
           "La ciudad está junto al río."),
    "pl": ("Plik", "Kategoria", "Grafika", "mały", "#PATRZ", "__BEZSPISU__",
           "Miasto leży nad Wisłą."),
    "nl": ("Bestand", "Categorie", "Afbeelding", "miniatuur|rechtop", "#DOORVERWIJZING",
           "__GEENINHOUD__", "De stad ligt aan het IJ."),
    "ru": ("Файл", "Категория", "Изображение", "мини|слева", "#перенаправление",
           "__БЕЗ_ОГЛАВЛЕНИЯ__", "Город стоит на Неве."),
    "uk": ("Файл", "Категорія", "Зображення", "міні", "#ПЕРЕНАПРАВЛЕННЯ", "__БЕЗ_ЗМІСТУ__",
           "Місто стоїть на Дніпрі."),
    "tr": ("Dosya", "Kategori", "Resim", "küçükresim|sağ", "#YÖNLENDİRME", "__İÇİNDEKİLERYOK__",
           "Şehir boğazın kıyısındadır."),
    "vi": ("Tập tin", "Thể loại", "Hình", "nhỏ|phải", "#đổi", "__KHÔNGMỤCMỤC__",
           "Thành phố nằm bên sông Hồng."),
    "ar": ("ملف", "تصنيف", "صورة", "تصغير|يسار", "#تحويل", "__لافهرس__", "تقع المدينة على النيل."),
    "fa": ("پرونده", "رده", "تصویر", "بندانگشتی", "#تغییرمسیر", "__بی‌فهرست__", "شهر کنار رود است."),
    "he": ("קובץ", "קטגוריה", "תמונה", "ממוזער|שמאל", "#הפניה", "__ללא_תוכן__",
           "העיר שוכנת על הים."),
    "hi": ("चित्र", "श्रेणी", "छवि", "अंगूठाकार", "#अनुप्रेषित", "__अनुक्रम_नहीं__", "शहर नदी के किनारे है।"),
    "th": ("ไฟล์", "หมวดหมู่", "ภาพ", "ย่อ|ขวา", "#เปลี่ยนทาง", "__ไม่มีสารบัญ__", "เมืองอยู่ริมแม่น้ำ"),
    "ja": ("ファイル", "Category", "画像", "サムネイル|右", "#転送", "__目次強制__",
           "都市は川沿いにある。"),
    "ko": ("파일", "분류", "그림", "섬네일|오른쪽", "#넘겨주기", "__목차숨김__",
           "도시는 강가에 있다."),
    "zh": ("File", "Category", "文件", "缩略图|右", "#重定向", "__无目录__", "这座城市在河边。"),
}  # fmt: skip
# What pages of some wikis write where <siteinfo> has the English name.
CATEGORY_ALIAS = {"zh": "分类", "ja": "カテゴリ"}


def dump(language: str, *pages: str, names: dict[int, str] | None = None) -> bytes:
    spaces = "".join(f'<namespace key="{k}">{v}</namespace>' for k, v in (names or {}).items())
    whole = "".join(
        f"<page><title>T</title><ns>0</ns><id>{number}</id><revision><id>9</id>"
        f"<model>wikitext</model><text>{escape(text)}</text></revision></page>\n"
        for number, text in enumerate(pages, 1)
    )
    return (
        f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="{language}">'
        f"<siteinfo><namespaces>{spaces}</namespaces></siteinfo>{whole}</mediawiki>"
    ).encode()


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "wiki.xml"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("language", WIKIS)
def test_only_the_text_of_a_page_is_left(tmp_path: Path, language: str) -> None:
    file, category, alias, option, redirect, magic, sentence = WIKIS[language]
    article = (
        f"[[{file}:Berlin skyline.jpg|{option}|A caption with a [[link]]]]\n{sentence}\n"
        f"[[{alias}:Tor.JPG|{option}|Another]] [[{file.lower()}:Map]]\n{magic}\n"
        f"[[{category}:Cities| ]]\n[[{CATEGORY_ALIAS.get(language, category)}:More_cities]]\n"
        "[[Category:English name]] [[en:Berlin]]"
    )
    pages = (article, f"{redirect} [[Berlin]]", f"{redirect}: [[Berlin]]\n[[{category}:Old]]")
    names = {-2: "M", 0: "", 6: file, 14: category}
    path = written(tmp_path, dump(language, *pages, names=names))
    assert [(d.id, d.text) for d in read_documents([path])] == [(f"{path}#1", sentence)]


def test_parts_of_a_dump_know_the_names_of_the_site(tmp_path: Path) -> None:
    text = "[[Ficheru:X|miniatura|pequeña]]\n[[Xénero:Y]]\nLa cai ye llarga. " + "x " * 400
    path = written(tmp_path, dump("ast", *[text] * 20, names={6: "Ficheru", 14: "Xénero"}))
    config = BuildConfig(inputs=(str(path),))
    (file,) = input_files(config.inputs)
    parts = split_file(file, ReaderOptions(), 4000)
    assert len(parts) > 3
    found = [d.text for part in parts for d in read_file(part, ReaderOptions())]
    assert found == ["La cai ye llarga. " + ("x " * 400).strip()] * 20


@pytest.mark.parametrize(
    ("language", "markup", "text"),
    [
        ("zh", "这是-{zh-hans:软件;zh-hant:軟體}-的文章。", "这是软件的文章。"),
        ("zh", "-{zh-tw:資訊; zh-hk:資訊科技;}-", "資訊"),
        ("zh", "-{H|zh-cn:博客;zh-tw:部落格;}-正文", "正文"),
        ("zh", "-{A|zh-cn:博客;zh-tw:部落格}-", "博客"),
        ("zh", "-{H|部落格=>zh-cn:博客}--{T|zh:标题}-正文", "正文"),
        ("zh", "-{不转换}-与-{|R&D; x}-", "不转换与R&D; x"),
        ("zh", "-{zh-hans:[[计算机|电脑]];zh-hant:[[電腦]]}-", "电脑"),
        ("zh", "-{zh-hans:外-{内}-;zh-hant:x}-", "外内"),
        ("zh", "-{未完", "-{未完"),
        ("zh", "a-{{模板}}-b", "a--b"),
        ("sr", "-{sr-el:latinica; sr-ec:ћирилица}-", "ћирилица"),
        ("kk", "-{kk-latn:qazaq;kk-cyrl:қазақ}-", "qazaq"),
        ("en", "f-{x}-", "f-{x}-"),
    ],
)
def test_one_variant_of_a_conversion_is_read(language: str, markup: str, text: str) -> None:
    assert prose(markup, Site(language=language)) == text


def test_what_merely_looks_like_a_redirect_or_a_file_stays(tmp_path: Path) -> None:
    pages = (
        "#Berlin [[city]] of Germany\n#Bonn",
        "See [[:Category:Cities]], [[CD: the disc]].",
        "[[Star Wars: A New Hope]] and [[E-mail: x|mail]][[Alt: x|mini|[[a|b]]]]",
        "The method __init__ of C3__PO__X",
    )
    path = written(tmp_path, dump("en", *pages))
    assert [d.text for d in read_documents([path])] == [
        "Berlin city of Germany\nBonn", "See :Category:Cities, .",
        "Star Wars: A New Hope and mail", "The method __init__ of C3X",
    ]  # fmt: skip
