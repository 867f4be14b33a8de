"""The networks of a pretraining run, put together from its configuration."""

from collections.abc import Mapping

from torch import Tensor, nn

from convbert.models.architecture import PretrainingConfig
from convbert.models.embeddings import TABLES, DisentangledEmbeddings
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.heads import DiscriminatorHead, MaskedLMHead
from convbert.models.shapes import shapes_alone


class ReplacedTokenModel(nn.Module):
    """Generator and discriminator of replaced-token detection (ELECTRA, Clark et al. 2020).

    Tied embeddings are one module, the discriminator's, which both encoders read: word, position
    and type tables and their layer norm (section 3.2 of the paper). With ``gdes`` the tables are
    the generator's and the discriminator has the differences. Tied encoders are one module under
    both names.
    """

    def __init__(self, config: PretrainingConfig) -> None:
        super().__init__()
        if config.generator is None:
            raise UserError("objective=mlm has no generator: build a MaskedLanguageModel instead")
        self.config = config
        generator, differences = None, None
        if config.tie_embeddings == "gdes":
            generator = Encoder(config.generator)
            differences = DisentangledEmbeddings(config.discriminator, generator.embeddings)
        self.discriminator = Encoder(config.discriminator, differences)
        self.discriminator_head = DiscriminatorHead(config.discriminator)
        if config.tie_encoders:
            generator = self.discriminator
        elif generator is None:
            shared = self.discriminator.embeddings if config.tie_embeddings else None
            generator = Encoder(config.generator, shared)
        self.generator = generator
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
    """Return the encoder that is exported and fine-tuned.

    It is the model's own, but for ``gdes``: then it is another one with the sums as its tables,
    which shares all other parameters with the model's.
    """
    if isinstance(model, MaskedLanguageModel):
        return model.encoder
    if model.config.tie_embeddings != "gdes":
        return model.discriminator
    weights = model.discriminator.state_dict()
    shared = model.generator.embeddings.state_dict()
    weights |= {
        f"embeddings.{table}": weights[f"embeddings.{table}"] + shared[table] for table in TABLES
    }
    with shapes_alone():
        encoder = Encoder(model.config.discriminator)
    encoder.load_state_dict(weights, assign=True)
    return encoder.train(model.discriminator.training)


def disentangled(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a ``gdes`` model has in place of those of an untied or tied one."""
    differences = {}
    for table in TABLES:
        name = f"discriminator.embeddings.{table}"
        differences[name] = weights[name] - weights[f"generator.embeddings.{table}"]
    return {**weights, **differences}
