"""The networks of a pretraining run, put together from its configuration."""

from torch import nn

from convbert.models.config import PretrainingConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.heads import DiscriminatorHead, MaskedLMHead


class ReplacedTokenModel(nn.Module):
    """Generator and discriminator of replaced-token detection (ELECTRA, Clark et al. 2020).

    Tied embeddings are one module, the discriminator's, which both encoders read: word, position
    and type tables and their layer norm (section 3.2 of the paper). Tied encoders are one module
    under both names.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        if config.generator is None:
            raise UserError("objective=mlm has no generator: build a MaskedLanguageModel instead")
        self.config = config
        self.discriminator = Encoder(config.discriminator)
        self.discriminator_head = DiscriminatorHead(config.discriminator)
        if config.tie_encoders:
            self.generator = self.discriminator
        else:
            shared = self.discriminator.embeddings if config.tie_embeddings else None
            self.generator = Encoder(config.generator, shared)
        self.generator_head = MaskedLMHead(config.generator, self.generator.embeddings.word)


class MaskedLanguageModel(nn.Module):
    """One encoder with a masked-language-model head, as BERT (Devlin et al. 2019) without the
    next-sentence task."""

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.discriminator)
        self.head = MaskedLMHead(config.discriminator, self.encoder.embeddings.word)


PretrainingModel = ReplacedTokenModel | MaskedLanguageModel


def build_model(config: PretrainingConfig) -> PretrainingModel:
    """Return freshly initialized networks for ``config.objective``."""
    return MaskedLanguageModel(config) if config.objective == "mlm" else ReplacedTokenModel(config)


def kept_encoder(model: PretrainingModel) -> Encoder:
    """Return the encoder that is exported and fine-tuned."""
    return model.discriminator if isinstance(model, ReplacedTokenModel) else model.encoder
