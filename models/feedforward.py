"""The feed-forward block and its grouped linear maps."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convbert.models.config import EncoderConfig
from convbert.models.ops.dropout import Dropout


class GroupedLinear(nn.Module):
    """A block-diagonal linear map (ConvBERT, Jiang et al. 2020, section 3.4).

    The last axis is split into G contiguous slices; slice g is multiplied by ``weight[g]`` and the
    results are concatenated in the same order. ``weight`` is [G, in / G, out / G], ``bias`` [out].
    """

    def __init__(self, in_features: int, out_features: int, num_groups: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.empty(num_groups, in_features // num_groups, out_features // num_groups)
        )
        self.bias = nn.Parameter(torch.empty(out_features))

    def forward(self, hidden: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        groups, slice_in, _ = self.weight.shape
        slices_GTI = hidden.reshape(-1, groups, slice_in).transpose(0, 1)
        bias_G1O = self.bias.view(groups, 1, -1)
        out_GTO = torch.baddbmm(bias_G1O, slices_GTI, self.weight)
        return out_GTO.transpose(0, 1).reshape(*hidden.shape[:-1], -1)


def make_linear(in_features: int, out_features: int, num_groups: int) -> nn.Linear | GroupedLinear:
    """Return a linear map in ``num_groups`` groups; one group is an ordinary ``nn.Linear``."""
    if num_groups == 1:
        return nn.Linear(in_features, out_features)
    return GroupedLinear(in_features, out_features, num_groups)


class FeedForward(nn.Module):
    """Two linear maps around an exact GELU, added to the input and normalized."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, inner, groups = config.hidden_size, config.intermediate_size, config.num_groups
        self.up = make_linear(width, inner, groups)
        self.down = make_linear(inner, width, groups)
        self.dropout = Dropout(config.hidden_dropout)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, hidden_BLD: Tensor) -> Tensor:
        """Return [B, L, D]."""
        change = self.dropout(self.down(F.gelu(self.up(hidden_BLD))))
        return self.norm(hidden_BLD + change)
