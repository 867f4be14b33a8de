"""Read documents from files of many formats, one document at a time.

One module knows one format: text, jsonl, table, parquet, warc and mediawiki. Every format is read
from local paths, globs, directories and any URL that fsspec opens, plain or compressed with gzip,
bzip2, Zstandard or xz. What a file is follows from its name, or else from its first bytes.
"""

from convbert.data_pipeline.readers.discovery import Found, find_files, input_files, would_find
from convbert.data_pipeline.readers.inputs import InputFile
from convbert.data_pipeline.readers.options import Format, ReaderOptions, Unit
from convbert.data_pipeline.readers.read import iter_documents, read_documents, read_file
from convbert.data_pipeline.readers.records import BadRecord, BadRecordError
from convbert.data_pipeline.readers.split import split_file

__all__ = [
    "BadRecord",
    "BadRecordError",
    "Format",
    "Found",
    "InputFile",
    "ReaderOptions",
    "Unit",
    "find_files",
    "input_files",
    "iter_documents",
    "read_documents",
    "read_file",
    "split_file",
    "would_find",
]
