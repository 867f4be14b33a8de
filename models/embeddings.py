"""The embedding block: word, position and token type, normalized."""

from torch import Tensor, nn

from convbert.models.config import EncoderConfig
from convbert.models.errors import UserError
from convbert.models.masking import restarting_positions
from convbert.models.ops.dropout import Dropout


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
            position = self.position.weight[:length]
        else:
            position = self.position(restarting_positions(document_ids_BL))
        if token_type_ids_BL is None:
            token_type = self.token_type.weight[0]
        else:
            token_type = self.token_type(token_type_ids_BL)
        summed: Tensor = self.word(input_ids_BL) + position + token_type
        return self.dropout(self.norm(summed))
