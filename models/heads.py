"""The two prediction heads of replaced-token detection."""

from torch import Tensor, nn
from torch.nn import functional as F

from convbert.models.config import EncoderConfig
from convbert.models.init import initialize


class DiscriminatorHead(nn.Module):
    """Was this token replaced? One logit per position (ELECTRA, Clark et al. 2020, section 2)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.prediction = nn.Linear(config.hidden_size, 1)
        initialize(self, config)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """Return logits [B, L]; positive means replaced."""
        logits: Tensor = self.prediction(F.gelu(self.dense(hidden_BLD)))
        return logits.squeeze(-1)


class MaskedLMHead(nn.Module):
    """Which token stood here? Logits over the vocabulary, through the encoder's own word table.

    The table is used, not owned: it appears among the encoder's parameters only. Give the head
    the hidden states of the masked positions alone, the vocabulary product is its whole cost.
    """

    def __init__(self, config: EncoderConfig, word_embedding: nn.Embedding) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(word_embedding.weight.new_empty(config.vocab_size))
        initialize(self, config)
        # In a tuple the module is not registered a second time.
        self._word = (word_embedding,)

    @property
    def vocabulary(self) -> Tensor:
        """The output matrix [V, E]: the shared word table."""
        return self._word[0].weight

    def transform(self, hidden_MD: Tensor) -> Tensor:
        """Map gathered hidden states [M, D] to the space of the word table, [M, E]."""
        embedded: Tensor = self.norm(F.gelu(self.dense(hidden_MD)))
        return embedded

    def forward(self, hidden_MD: Tensor) -> Tensor:
        """Map gathered hidden states [M, D] to logits [M, V]."""
        return F.linear(self.transform(hidden_MD), self.vocabulary, self.bias)
