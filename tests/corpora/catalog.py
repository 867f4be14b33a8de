"""The corpora that only tests and benchmarks use: package, digest, license, files."""

from convbert.data_pipeline.corpora.corpus import Corpus
from convbert.data_pipeline.corpora.packages import Wheel
from tests.corpora import unpack
from tests.corpora.debian import Deb

# The data are the same everywhere, but a wheel is for one system: always take the same one.
ONE_SYSTEM = ("--platform=manylinux_2_28_x86_64", "--python-version=311", "--implementation=cp")

MORE_CORPORA = {
    "wiki-dump": Corpus(
        Wheel(
            "gensim==4.4.0",
            "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
            ONE_SYSTEM,
        ),
        "CC BY-SA: a piece of a MediaWiki dump of Wikipedia, as it is",
        ("enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",),
        unpack.wiki_dump,
    ),
    "botocore": Corpus(
        Wheel(
            "botocore==1.44.8",
            "76342a76c338701db80dcb8afe1c9bd079283d6fffbb9d881442abb02a215043",
        ),
        "Apache 2.0: reference of Amazon's services; very repetitive",
        ("botocore.jsonl",),
        unpack.aws_reference,
    ),
    "google-api": Corpus(
        Wheel(
            "google-api-python-client==2.202.0",
            "aaa90064c9bb642ff1d065b22ca8958a2cb6e345909cefe70d0e5452fc50e08b",
        ),
        "Apache 2.0: reference of Google's services; very repetitive",
        ("google-api.jsonl",),
        unpack.google_reference,
    ),
    "austen": Corpus(
        Deb(
            "r-cran-janeaustenr=1.0.0-1",
            "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
        ),
        "public domain: six novels",
        ("austen.jsonl",),
        unpack.novels,
    ),
    "anarchism": Corpus(
        Deb(
            "anarchism=15.3-3",
            "cf21c10948b00e923c62eb31c39a3390413fa26c5ee0e3b925feb0ec7fe42948",
        ),
        "GPL 2: An Anarchist FAQ",
        ("anarchism.jsonl",),
        unpack.anarchist_faq,
    ),
    "gcide": Corpus(
        Deb(
            "dict-gcide=0.48.5+nmu2",
            "7b0af5cfde3cbdef5e9d6e78f92ec335ced7c2790f37a40f49bebc6f7347ac0f",
        ),
        "GPL: the GNU Collaborative International Dictionary of English",
        ("gcide.jsonl",),
        unpack.dictionary,
    ),
    "wordnet": Corpus(
        Deb(
            "wordnet-base=1:3.0-37",
            "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
        ),
        "WordNet 3.0 license (like BSD): definitions",
        ("wordnet.jsonl",),
        unpack.glosses,
    ),
    "linux-doc": Corpus(
        Deb(
            "linux-doc-6.1=6.1.176-1",
            "0d843674607703b9ef8c1db5e715c38ed52ff23574feabfe0d961d552126859f",
        ),
        "GPL 2: documentation of the Linux kernel",
        ("linux-doc.jsonl",),
        unpack.kernel_documentation,
    ),
}
