"""Export a tokenizer as a fast Hugging Face tokenizer with the same ids.

A sentencepiece model is rebuilt from the parts of the ``tokenizers`` library: its normalization
table, its treatment of spaces, its pieces with their scores (unigram) or merges (BPE), and its
bytes for everything unknown. The result is compared with the original before it is written.

One thing differs on purpose: a text that spells out ``[MASK]`` gets the token, as everywhere in
Hugging Face; in training data it stays text.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as sentencepiece_model
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.tokenizer.encoders import MODEL, VOCABULARY, fast_file, word_piece
from convbert.data_pipeline.tokenizer.settings import FAST, HF_SETTINGS, PIECES, read_settings
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import UserError

SPACE = "\u2581"
UNIGRAM, BPE = 1, 2
NORMAL, USER_DEFINED = 1, 4

# Fast tokenizers look a letter up together with the marks on it, find the letter alone and drop
# the marks. A control character between them, which the table itself removes, prevents that.
_BREAK = "\x01"
_BEFORE_MARK = Regex(r"(?<=.)(?=[\p{M}\u200c\u200d\x{1f3fb}-\x{1f3ff}])")

# Whatever has made fast and original tokenizers differ: spaces, controls, decomposed and
# compatibility characters, unknown scripts, joined emoji, runs, literal byte pieces, long words.
TRICKY = (
    "",
    " ",
    "\n\t",
    "a",
    " leading and  double   spaces ",
    "tab\tnew\nline\r\nreturn\rvertical\x0bform\x0cfeed\x85next",
    "NUL\x00 bell\x07 escape\x1b delete\x7f",
    "no\u00a0break thin\u2009space ideographic\u3000space zero\u200bwidth \ufeff soft\u00adhyphen",
    "café cafe\u0301 naïve e\u0302\u0301 ê\u0301 q\u0307\u0323 Q\u0307 Z\u0303\u0323 A\u200db",
    "\ufb01nance ™ \u2460\u0301 ½ \uff21\uff22\uff23 \uff76\uff9e \u32ff x² ´ …",
    "“quotes” ‘single’ – en — em €5 £9",
    "می\u200cخوانم کتاب\u200cها क\u094d\u200cष क\u094d\u200dष",
    "привет 你好 こんにちは สวัสดี नमस्ते مرحبا 한글 \u1112\u1161\u11ab\u1100\u1173\u11af",
    "\U0001f600 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f 1\ufe0f\u20e3",
    "\U00020000 \U0010ffff \ufffd \ue000",
    "<0x41> <0x0A><0xFF> </s> <unk>",
    "▁literal ▁▁ spaces▁",
    "---------- ...... ======= aaaaaaaaaaaaa 0000000 !!!!!!!!!!!",
    "x" * 300,
    "Pneumonoultramicroscopicsilicovolcanoconiosis isn't can't U.S.A. 3.14159 1,000,000",
    'http://example.org/a?b=c&d=%20#e user@example.org C:\\path\\file.txt {"k": [1, 2]}',
)


def save_hf_tokenizer(tokenizer: Tokenizer, directory: Path, max_length: int) -> None:
    """Write ``tokenizer.json`` and its two settings files, which ``AutoTokenizer`` loads.

    The original file is copied beside them: it is what this package reads.
    ``max_length`` is the longest row of the model. Raises ``UserError`` if the fast tokenizer
    gives other ids than ``tokenizer`` for any of the sample texts; nothing is written then.
    """
    fast = fast_tokenizer(tokenizer)
    check_identical(tokenizer, fast)
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.file.name == VOCABULARY:
        settings |= read_settings(tokenizer.folder).to_hugging_face()
    names = {f"{name}_token": piece for name, piece in PIECES.items()}
    files = {
        FAST: fast.to_str().encode(),
        HF_SETTINGS: json.dumps({**settings, **names}, indent=2).encode(),
        "special_tokens_map.json": json.dumps(names, indent=2).encode(),
        tokenizer.file.name: tokenizer.file.read_bytes(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        with atomic_write(directory / name) as file:
            file.write(content)


def fast_tokenizer(tokenizer: Tokenizer) -> FastTokenizer:
    """Rebuild a tokenizer with the ``tokenizers`` library; raises ``UserError`` if it cannot.

    A ``tokenizer.json`` is such a tokenizer already, and stays what it is.
    """
    if tokenizer.file.name == FAST:
        return fast_file(tokenizer.file)
    if tokenizer.file.name == MODEL:
        fast = _from_sentencepiece(tokenizer.file)
    else:
        fast = word_piece(tokenizer.folder)
    fast.add_special_tokens(
        [AddedToken(p, normalized=False, special=True) for p in PIECES.values()]
    )
    fast.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.cls_id), ("[SEP]", tokenizer.sep_id)],
    )
    return fast


def check_identical(tokenizer: Tokenizer, fast: FastTokenizer) -> None:
    """Raise ``UserError`` naming the first sample text that the two encode differently."""
    encoded = fast.encode_batch(list(TRICKY), add_special_tokens=False)
    for text, ids, expected in zip(TRICKY, encoded, tokenizer.encode_batch(TRICKY), strict=True):
        if ids.ids != expected:
            raise UserError(
                f"{tokenizer.file}: a fast tokenizer gives other ids for {text!r}; train the "
                "tokenizer with `convbert tokenizer train`, or use the sentencepiece model itself"
            )


def _from_sentencepiece(path: Path) -> FastTokenizer:
    proto = sentencepiece_model.ModelProto()
    proto.ParseFromString(path.read_bytes())
    kind = proto.trainer_spec.model_type
    if kind not in _MODELS:
        raise UserError(f"{path}: neither a unigram nor a BPE model; train one of these")
    fast = FastTokenizer(_MODELS[kind](proto))
    fast.normalizer = _normalizer(proto.normalizer_spec)
    # Pieces hold a space only in front, so that words can be encoded one by one. The literal text
    # of a byte piece is cut, because a fast unigram model would take it for the byte.
    # What follows a [MASK] is text of its own here, but no sentence: only what begins the text gets
    # the space in front, or a language without spaces would have one behind every [MASK].
    first = "first" if proto.normalizer_spec.add_dummy_prefix else "never"
    fast.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(SPACE, prepend_scheme=first, split=False),
            pre_tokenizers.Split(SPACE, "merged_with_next"),
            pre_tokenizers.Split(Regex("<(?=0x[0-9A-F]{2}>)"), "merged_with_previous"),
        ]
    )
    fast.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return fast


def _normalizer(spec: Any) -> normalizers.Normalizer:
    """Do what sentencepiece's normalizer does, after the NFKC that ``Tokenizer`` applies."""
    steps: list[normalizers.Normalizer] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.NFKC())
        table = normalizers.Precompiled(spec.precompiled_charsmap)
        if table.normalize_str(f"a{_BREAK}b") == "ab":
            steps.append(normalizers.Replace(_BEFORE_MARK, _BREAK))
        steps.append(table)
    if spec.add_dummy_prefix:  # Metaspace takes a mark that begins the text for the one in front
        steps.append(normalizers.Replace(Regex(rf"\A{SPACE}"), SPACE * 2))
    if spec.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex(rf"[ {SPACE}]+\z|(?<= ) +"), ""))
    steps.append(normalizers.Replace(" ", SPACE))
    return normalizers.Sequence(steps)


def _unigram(proto: Any) -> models.Model:
    return models.Unigram(
        [(p.piece, p.score) for p in proto.pieces],
        unk_id=proto.trainer_spec.unk_id,
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


def _bpe(proto: Any) -> models.Model:
    """Give every way to join two pieces into a third the rank of the third."""
    ids = {p.piece: number for number, p in enumerate(proto.pieces)}
    learned = {p.piece: p.score for p in proto.pieces if p.type in (NORMAL, USER_DEFINED)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(learned, key=learned.__getitem__, reverse=True)
        for cut in range(1, len(piece))
        if piece[:cut] in learned and piece[cut:] in learned
    ]
    return models.BPE(
        ids,
        merges,
        unk_token=PIECES["unk"],
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


_MODELS: dict[int, Callable[[Any], models.Model]] = {UNIGRAM: _unigram, BPE: _bpe}
