"""Export a tokenizer as a fast Hugging Face tokenizer that gives the same ids.

A sentencepiece model becomes a ``tokenizers`` pipeline: the model's own normaliser (its compiled
character map), its white-space rule, its pieces with scores or merges, and byte fallback. The
result is compared with the original on difficult text before anything is kept.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as model_pb2

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.tokenizer import PIECES, Tokenizer
from convbert.models.errors import UserError

_SPACE = "\u2581"
_UNIGRAM, _BPE = 1, 2
_CONTROL = 3

SAMPLE = (
    "The quick brown fox jumps over the lazy dog.",
    "  leading,  double   and trailing spaces  ",
    "tabs\tand\nlines\r\nand\u00a0no-break\u3000wide spaces",
    "Ünïcödé, naïve café, e\u0301 and \u00e9, ﬁne ligature, ½ ², ＦＵＬＬ width",
    "emoji 😀👩‍👩‍👧 and 漢字 かな 한국어 עברית العربية हिन्दी",
    "don't can't 1,234.56 $100 50% #tag @user http://a.b/c?d=e&f=g",
    "▁already marked ▁ pieces",
    "Zalgo: h̷̢̧ȩ̴l̵p; soft\u00adhyphen; zero\u200bwidth; \ufeffmark",
    "",
    " ",
    "a" * 300,
)


def save_hf_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for ``AutoTokenizer``.

    ``max_length`` is the model's number of positions. Raises ``UserError`` if the exported
    tokenizer does not give identical ids on ``SAMPLE``.
    """
    backend = _from_sentencepiece(tokenizer) if tokenizer.is_sentencepiece else _copy(tokenizer)
    _frame(backend, tokenizer)
    require_identical(tokenizer, backend, SAMPLE)
    directory.mkdir(parents=True, exist_ok=True)
    content = backend.to_str(pretty=True).encode()
    with atomic_write(directory / "tokenizer.json") as file:
        file.write(content)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": piece for name, piece in PIECES.items()},
    }
    with atomic_write(directory / "tokenizer_config.json") as file:
        file.write(json.dumps(settings, indent=1).encode() + b"\n")


def require_identical(tokenizer: Tokenizer, backend: Any, texts: Sequence[str]) -> None:
    """Raise ``UserError`` naming the first text to which the two give different ids."""
    ours = tokenizer.encode_batch(texts)
    theirs = backend.encode_batch(list(texts), add_special_tokens=False)
    for text, left, right in zip(texts, ours, theirs, strict=True):
        if left != right.ids:
            raise UserError(
                f"{tokenizer.file}: cannot be exported exactly: {text!r} gives {left[:12]} here "
                f"and {right.ids[:12]} in Hugging Face's form; keep using the original tokenizer"
            )


def _copy(tokenizer: Tokenizer) -> Any:
    """Return a WordPiece vocabulary's pipeline, which is one already."""
    from tokenizers import BertWordPieceTokenizer
    from tokenizers import Tokenizer as Backend

    from convbert.data_pipeline.tokenizer import reads_lowercase

    lowercase = reads_lowercase(tokenizer.folder)
    return Backend.from_str(
        BertWordPieceTokenizer(str(tokenizer.file), lowercase=lowercase).to_str()
    )


def _from_sentencepiece(tokenizer: Tokenizer) -> Any:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, normalizers, pre_tokenizers

    proto = model_pb2.ModelProto()
    proto.ParseFromString(tokenizer.file.read_bytes())
    backend = Backend(_MODELS[proto.trainer_spec.model_type](proto))
    spec = proto.normalizer_spec
    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(_regex(" {2,}"), " ")]
    backend.normalizer = normalizers.Sequence(steps)
    scheme = "always" if spec.add_dummy_prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme=scheme, split=False)
    backend.decoder = decoders.Sequence(
        [
            decoders.ByteFallback(),
            decoders.Metaspace(_SPACE, prepend_scheme=scheme),
        ]
    )
    return backend


def _regex(pattern: str) -> Any:
    from tokenizers import Regex

    return Regex(pattern)


def _unigram(proto: Any) -> Any:
    from tokenizers import models

    pieces = [(p.piece, p.score) for p in proto.pieces]
    return models.Unigram(pieces, proto.trainer_spec.unk_id, proto.trainer_spec.byte_fallback)


def _bpe(proto: Any) -> Any:
    """Rebuild the merges: every way to cut a piece in two pieces, by the rank of the result."""
    from tokenizers import models

    ids = {p.piece: number for number, p in enumerate(proto.pieces)}
    merges: list[tuple[float, int, str, str]] = []
    for piece in proto.pieces:
        text = piece.piece
        cuts = ((text[:i], text[i:]) for i in range(1, len(text)))
        found = [(ids[a], ids[b], a, b) for a, b in cuts if a in ids and b in ids]
        merges += [(-piece.score, order, a, b) for order, (_, _, a, b) in enumerate(sorted(found))]
    ordered = [(a, b) for _, _, a, b in sorted(merges, key=lambda m: (m[0], m[1]))]
    unknown = proto.pieces[proto.trainer_spec.unk_id].piece
    return models.BPE(
        ids, ordered, unk_token=unknown, fuse_unk=True, byte_fallback=True, ignore_merges=False
    )


_MODELS = {_UNIGRAM: _unigram, _BPE: _bpe}


def _frame(backend: Any, tokenizer: Tokenizer) -> None:
    """Add the special tokens and the ``[CLS] A [SEP] B [SEP]`` frame."""
    from tokenizers import AddedToken, processors

    backend.add_special_tokens(
        [AddedToken(piece, special=True, normalized=False) for piece in PIECES.values()]
    )
    cls, sep = PIECES["cls"], PIECES["sep"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, tokenizer.cls_id), (sep, tokenizer.sep_id)],
    )
