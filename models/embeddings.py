"""The embedding block: word, position and token type, normalized."""

import torch
from torch import Tensor, nn

from convbert.models.architecture import EncoderConfig
from convbert.models.errors import UserError
from convbert.models.init import initialize
from convbert.models.masking import restarting_positions
from convbert.models.ops.dropout import Dropout

TABLES = ("word.weight", "position.weight", "token_type.weight")


class Embeddings(nn.Module):
    """Sum of word, learned position and token type vectors, then layer norm and dropout.

    Shapes: B rows, L positions, E embedding size. As in BERT (Devlin et al. 2019).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_size
        self.word = nn.Embedding(config.vocab_size, width)
        self.position = nn.Embedding(config.max_positions, width)
        self.token_type = nn.Embedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout)

    def forward(
        self,
        input_ids_BL: Tensor,
        token_type_ids_BL: Tensor | None = None,
        document_ids_BL: Tensor | None = None,
    ) -> Tensor:
        """Return [B, L, E]. Positions restart at every document; missing types are type 0.

        Raises ``UserError`` when the row is longer than the position table.
        """
        length = input_ids_BL.shape[1]
        if length > self.position.num_embeddings:
            raise UserError(
                f"rows of {length} tokens exceed max_positions={self.position.num_embeddings}: "
                "shorten the rows or use a model with more positions"
            )
        if document_ids_BL is None:
            position = self.rows("position", slice(length))
        else:
            position = self.rows("position", restarting_positions(document_ids_BL))
        token_type = self.rows("token_type", 0 if token_type_ids_BL is None else token_type_ids_BL)
        summed = self.rows("word", input_ids_BL) + position + token_type
        normalized: Tensor = self.dropout(self.norm(summed))
        return normalized

    def rows(self, name: str, index: Tensor | slice | int) -> Tensor:
        """Return the rows of a table at ids [B, L], or at those that are the same in every row."""
        table: nn.Embedding = getattr(self, name)
        found: Tensor = table(index) if isinstance(index, Tensor) else table.weight[index]
        return found


class DisentangledEmbeddings(Embeddings):
    """Embeddings whose tables are those of another block plus differences, which start at zero.

    Gradients reach the differences alone: the discriminator uses what its generator has learnt of
    words without pulling the generator's tables in a direction of its own (gradient-disentangled
    embedding sharing, DeBERTaV3, He et al. 2021, arXiv 2111.09543). ``word``, ``position`` and
    ``token_type`` hold the differences; the layer norm is the block's own.
    """

    def __init__(self, config: EncoderConfig, shared: Embeddings) -> None:
        super().__init__(config)
        initialize(self, config)
        for table in (self.word, self.position, self.token_type):
            nn.init.zeros_(table.weight)
        # In a tuple the module is not registered a second time.
        self._shared = (shared,)

    def rows(self, name: str, index: Tensor | slice | int) -> Tensor:
        """Return the sums of both tables' rows, as ``Embeddings.rows`` does."""
        with torch.no_grad():
            shared = self._shared[0].rows(name, index)
        return shared + super().rows(name, index)
