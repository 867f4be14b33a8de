"""Text with masks to token ids and back, as transformers reads it."""

from pathlib import Path

from tokenizers import Tokenizer as FastTokenizer

from convbert.data_pipeline.tokenizer.hugging_face import SPACE, fast_tokenizer
from convbert.data_pipeline.tokenizer.settings import HF_SETTINGS, PIECES
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.errors import DamagedError, UserError
from convbert.models.schema import read_json
from convbert.pretrain.show.records import MASK

_FAST = "tokenizer.json"


class Reader:
    """A fast tokenizer: what is spelled ``[MASK]`` in a text is the mask token."""

    def __init__(self, fast: FastTokenizer, special: dict[str, str], name: str) -> None:
        """Take the pieces that ``special`` names as ``PIECES`` does; ``name`` is for messages."""
        fast.no_padding()
        fast.no_truncation()
        self._fast = fast
        self._mask = special["mask"]
        self.name = name
        self.size = fast.get_vocab_size()
        self.cls_id, self.sep_id, self.mask_id = (
            self._special_id(special[kind]) for kind in ("cls", "sep", "mask")
        )

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Reader":
        """Return the reader that an export of ``tokenizer`` is."""
        return cls(fast_tokenizer(tokenizer), PIECES, str(tokenizer.file))

    @classmethod
    def open(cls, folder: Path) -> "Reader":
        """Read ``tokenizer.json`` of a Hugging Face directory, or else what ``Tokenizer`` reads."""
        path = folder / _FAST
        if not path.is_file():
            return cls.of(Tokenizer.load(folder))
        try:
            fast = FastTokenizer.from_file(str(path))
        except Exception as error:  # the library knows no other class
            raise DamagedError(f"{path}: not a fast tokenizer ({error}); copy it again") from None
        return cls(fast, PIECES | _named(folder / HF_SETTINGS), str(path))

    def row(self, text: str) -> list[int]:
        """Return the ids of a text between [CLS] and [SEP]; raises ``UserError`` for none."""
        if any("\ud800" <= letter <= "\udfff" for letter in text):  # as Python takes other bytes
            raise UserError(f"text {text!r}: is not UTF-8; write it anew")
        ids = self._fast.encode(text.replace(MASK, self._mask), add_special_tokens=False).ids
        if not ids:
            raise UserError(f"text {text!r}: holds no token; write a sentence")
        return [self.cls_id, *ids, self.sep_id]

    def fitted_row(self, text: str, limit: int, vocab_size: int) -> tuple[list[int], int]:
        """Return ``row(text)`` cut to ``limit`` ids, and how many tokens are left out.

        Raises ``UserError`` for ids that a model of ``vocab_size`` does not know, too.
        """
        whole = self.row(text)
        if max(whole) >= vocab_size:
            raise UserError(
                f"{self.name}: gives the id {max(whole)}, the model knows {vocab_size}; give the "
                "model's own tokenizer with --tokenizer"
            )
        row = whole if len(whole) <= limit else [*whole[: limit - 1], self.sep_id]
        return row, len(whole) - len(row)

    def piece(self, number: int) -> str:
        """Return a token as the vocabulary spells it."""
        return str(self._fast.id_to_token(number))

    def word(self, number: int) -> str:
        """Return a token to read: without the mark of a space, if that leaves anything."""
        piece = self.piece(number)
        return piece.removeprefix(SPACE) or piece

    def _special_id(self, piece: str) -> int:
        number = self._fast.token_to_id(piece)
        if number is None:
            raise UserError(f"{self.name}: has no token {piece}; give another with --tokenizer")
        return number


def _named(settings: Path) -> dict[str, str]:
    """Read which pieces the special tokens are, where ``tokenizer_config.json`` says so."""
    if not settings.is_file():
        return {}
    content = read_json(settings)
    found = {kind: content.get(f"{kind}_token") for kind in PIECES}
    spelled = {k: v.get("content") if isinstance(v, dict) else v for k, v in found.items()}
    return {kind: piece for kind, piece in spelled.items() if isinstance(piece, str)}
