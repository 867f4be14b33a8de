"""What is compared: each suite turns a setting into one comparison."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convbert.models.architecture import EncoderConfig
from convbert.models.compiling import compile_layers
from convbert.models.encoder import Encoder, EncoderLayer
from convbert.models.flops import forward_flops
from convbert.models.heads import DiscriminatorHead
from convbert.models.ops.compilation import compile_for_training
from convbert.models.ops.convolution import span_dynamic_conv, use_backend
from convbert.models.ops.masked_lm import masked_lm
from convbert.models.presets import preset
from tests.benchmarks.measuring import Comparison, Contender
from tests.benchmarks.rivals import TransformersEncoder, transformers_layer, unfolded_conv

Compile = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Setting:
    """Sizes and precision of a comparison."""

    size: str
    batch: int
    length: int
    dtype: torch.dtype
    device: str

    @property
    def config(self) -> EncoderConfig:
        """The discriminator's configuration."""
        return preset(self.size).discriminator

    @property
    def electra(self) -> EncoderConfig:
        """The same size with plain attention."""
        return preset(f"electra-{self.size}").discriminator

    @property
    def tokens(self) -> int:
        """Tokens of one call."""
        return self.batch * self.length

    def random(self, *size: int, grad: bool = True) -> Tensor:
        """Return normal numbers in the setting's precision."""
        return torch.randn(size, device=self.device).to(self.dtype).requires_grad_(grad)

    def ids(self, upper: int) -> Tensor:
        """Return ids [B, L] below ``upper``."""
        return torch.randint(0, upper, (self.batch, self.length), device=self.device)

    def place(self, module: nn.Module) -> nn.Module:
        """Return the module in the setting's precision, on its device, in training mode."""
        return module.to(self.device, self.dtype).train()


def leave_eager(module: nn.Module) -> None:
    """Run the module operation by operation."""


def compile_as_trained(module: nn.Module) -> None:
    """Compile the way a run does: all of it with CUDA graphs on a GPU, the layers on a CPU."""
    if torch.cuda.is_available():
        compile_for_training(module, cuda_graphs=True)
    else:
        compile_layers(module)


def compile_plainly(module: nn.Module) -> None:
    """Compile the module's call the way its own users would."""
    module.compile(dynamic=False)


def operator(setting: Setting) -> Comparison:
    """Span-based dynamic convolution alone, forward and backward."""
    config = setting.config
    heads, width, taps = config.local_heads, config.head_dim, config.conv_kernel_size
    value = setting.random(setting.batch, setting.length, heads, width)
    logits = setting.random(setting.batch, setting.length, heads, taps)
    upstream = setting.random(setting.batch, setting.length, heads, width, grad=False)

    # Forward reads value and logits and writes the output; backward reads both and the output's
    # gradient and writes two gradients.
    least = 5 * value.numel() + 3 * logits.numel()

    def contender(name: str, function: Callable[..., Tensor]) -> Contender:
        def run() -> None:
            torch.autograd.grad(function(value, logits), (value, logits), upstream)

        return Contender(name, run, bytes=least * value.element_size())

    contenders = [
        contender("unfold, eager", unfolded_conv),
        contender("unfold, compiled", torch.compile(unfolded_conv, dynamic=False)),
        contender("ours, eager", span_dynamic_conv),
        contender("ours, compiled", torch.compile(span_dynamic_conv, dynamic=False)),
    ]
    title = f"span-based dynamic convolution, {heads} x {width}, forward + backward"
    return Comparison(title, setting.tokens, contenders)


def block(setting: Setting) -> Comparison:
    """One ConvBERT block, forward and backward."""
    hidden = setting.random(setting.batch, setting.length, setting.config.hidden_size)

    def contender(name: str, layer: nn.Module, compile_it: Compile) -> Contender:
        compile_it(setting.place(layer))

        def run() -> None:
            layer(hidden).sum().backward()
            layer.zero_grad()
            hidden.grad = None

        return Contender(name, run, parameter_bytes(layer))

    config = setting.config
    contenders = [
        contender("transformers, eager", transformers_layer(config), leave_eager),
        contender("transformers, compiled", transformers_layer(config), compile_plainly),
        contender("our ELECTRA, compiled", EncoderLayer(setting.electra), compile_for_training),
        contender("ours, eager", EncoderLayer(config), leave_eager),
        contender("ours, compiled", EncoderLayer(config), compile_for_training),
    ]
    return Comparison("one block, forward + backward", setting.tokens, contenders)


def forward(setting: Setting) -> Comparison:
    """The encoder without gradients."""
    ids = setting.ids(setting.config.vocab_size)

    work = setting.batch * forward_flops(setting.config, setting.length, convention="hardware")

    def contender(name: str, encoder: nn.Module, compiled: bool) -> Contender:
        encoder = setting.place(encoder).eval()
        call = torch.compile(encoder, dynamic=False) if compiled else encoder

        def run() -> None:
            with torch.no_grad():
                call(ids)

        return Contender(name, run, parameter_bytes(encoder), flops=work)

    contenders = [
        contender("transformers, eager", TransformersEncoder(setting.config), False),
        contender("transformers, compiled", TransformersEncoder(setting.config), True),
        contender("ours, eager", Encoder(setting.config), False),
        contender("ours, compiled", Encoder(setting.config), True),
    ]
    return Comparison("encoder, forward", setting.tokens, contenders)


class _Detector(nn.Module):
    """An encoder trained to tell replaced tokens, with the loss."""

    def __init__(self, encoder: nn.Module, config: EncoderConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = DiscriminatorHead(config)

    def forward(self, ids: Tensor, replaced: Tensor) -> Tensor:
        logits = self.head(self.encoder(ids)).float()
        return F.binary_cross_entropy_with_logits(logits, replaced)


def step(setting: Setting) -> Comparison:
    """A training step of the discriminator: forward, loss and backward.

    The optimizer, the same for all, is left out.
    """
    ids = setting.ids(setting.config.vocab_size)
    replaced = (torch.rand(ids.shape, device=setting.device) < 0.15).float()
    convbert, electra = setting.config, setting.electra
    entries = (
        ("transformers ConvBERT, eager", TransformersEncoder, convbert, leave_eager),
        ("transformers ConvBERT, compiled", TransformersEncoder, convbert, compile_plainly),
        ("transformers ELECTRA, eager", TransformersEncoder, electra, leave_eager),
        ("our ELECTRA, compiled", Encoder, electra, compile_as_trained),
        ("our ConvBERT, eager", Encoder, convbert, leave_eager),
        ("our ConvBERT, compiled", Encoder, convbert, compile_as_trained),
    )
    contenders = []
    for name, build, config, compile_it in entries:
        detector = setting.place(_Detector(build(config), config))
        compile_it(detector)
        work = forward_flops(config, setting.length, head="discriminator", convention="hardware")
        run = _training(detector, ids, replaced)
        memory, flops = parameter_bytes(detector), 3 * work * setting.batch
        contenders.append(Contender(name, run, memory, flops=flops))
    title = "training step of the discriminator, forward + backward"
    return Comparison(title, setting.tokens, contenders)


def masked_head(setting: Setting) -> Comparison:
    """Masked-LM loss, sample and accuracy over 15 % of the positions, forward and backward."""
    config = preset(setting.size).generator or setting.config
    rows = int(0.15 * setting.tokens)
    hidden = setting.random(rows, config.embedding_size)
    weight = setting.random(config.vocab_size, config.embedding_size)
    bias = setting.random(config.vocab_size)
    targets = torch.randint(0, config.vocab_size, (rows,), device=setting.device)
    uniform = torch.rand(rows, device=setting.device)

    def full_logits() -> Tensor:
        logits = F.linear(hidden, weight, bias).float()
        with torch.no_grad():
            gumbel = -torch.log(-torch.log(torch.rand_like(logits) + 1e-9) + 1e-9)
            (logits + gumbel).argmax(dim=1), logits.argmax(dim=1) == targets
        return F.cross_entropy(logits, targets)

    def chunked(function: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Callable[[], Tensor]:
        return lambda: function(hidden, weight, bias, targets, uniform)[0].mean()

    def contender(name: str, loss: Callable[[], Tensor]) -> Contender:
        return Contender(name, lambda: torch.autograd.grad(loss(), (hidden, weight, bias)))

    contenders = [
        contender("full logits, eager", full_logits),
        contender("full logits, compiled", torch.compile(full_logits, dynamic=False)),
        contender("ours, eager", chunked(masked_lm)),
        contender("ours, compiled", chunked(torch.compile(masked_lm, dynamic=False))),
    ]
    if setting.device == "cuda":
        # A function of its own: what is compiled of one is kept for that function.
        def masked_lm_again(*inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return masked_lm(*inputs)

        plain = torch.compile(masked_lm_again, dynamic=False)

        def without_kernels() -> Tensor:
            with use_backend("eager"):
                return chunked(plain)()

        contenders.append(contender("ours without kernels, compiled", without_kernels))
    title = "masked-LM loss + sampling, forward + backward"
    return Comparison(title, rows, contenders)


SUITES: dict[str, Callable[[Setting], Comparison]] = {
    "operator": operator,
    "block": block,
    "forward": forward,
    "step": step,
    "masked-head": masked_head,
}


def _training(module: nn.Module, ids: Tensor, replaced: Tensor) -> Callable[[], None]:
    def run() -> None:
        module(ids, replaced).backward()
        module.zero_grad()

    return run


def parameter_bytes(module: nn.Module) -> int:
    """Return what the module's parameters take."""
    return sum(p.numel() * p.element_size() for p in module.parameters())
