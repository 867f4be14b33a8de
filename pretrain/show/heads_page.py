"""One HTML file of the heads of an encoder, which needs nothing but itself."""

import base64
from pathlib import Path

from torch import Tensor

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.templates import templates
from convbert.pretrain.show.heads import HeadSeries
from convbert.pretrain.show.page import part

HEADINGS = ("near", "on [CLS], [SEP]", "kernel: own", "distance", "change")
"""Of the measures of a head, in their order."""


def write_heads(series: HeadSeries, output: Path) -> Path:
    """Write the page about ``series``; return its path."""
    environment = templates("convbert.pretrain.show", html=True)
    environment.filters["packed"] = packed
    page = environment.get_template("heads.html.j2").render(
        series=series,
        style="".join(map(part, ("base.css", "looks.css", "heads.css"))),
        script=part("heads.js"),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def packed(weights: Tensor) -> str:
    """Return weights from 0 to 1 as base64, a byte for the square root of each, row by row.

    The root keeps the small weights of a long text apart: the error is 0.4 % of the root.
    """
    levels = (weights.clamp(0, 1).sqrt() * 255).round().byte()
    return base64.b64encode(levels.numpy().tobytes()).decode()
