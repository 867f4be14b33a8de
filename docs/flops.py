"""Print the page flops.md: published training costs beside the computed ones.

Run ``python docs/flops.py > docs/flops.md`` after a change of the accounting or of a preset.
"""

from dataclasses import dataclass
from typing import get_args

from convbert.models.architecture import LocalOp
from convbert.models.counts import parameter_counts
from convbert.models.flops import training_flops_per_sequence
from convbert.models.presets import preset


@dataclass(frozen=True)
class PublishedRun:
    """A training run as its paper describes it; ``flops`` and ``parameters`` as printed there."""

    name: str
    preset: str
    seq_len: int
    batch_size: int
    updates: int
    flops: float
    parameters: str


# Table 3 of ConvBERT (Jiang et al. 2020), which repeats BERT's and ELECTRA's figures; lengths,
# batches and updates are those of ELECTRA (Clark et al. 2020) and of ConvBERT's released code.
PUBLISHED_RUNS = (
    PublishedRun("BERT-base", "bert-base", 512, 256, 1_000_000, 6.4e19, "110M"),
    PublishedRun("ELECTRA-small", "electra-small", 128, 128, 1_000_000, 1.4e18, "14M"),
    PublishedRun("ELECTRA-base", "electra-base", 512, 256, 766_000, 6.4e19, "110M"),
    PublishedRun("ConvBERT-small", "small", 128, 128, 1_000_000, 1.3e18, "14M"),
    PublishedRun("ConvBERT-medium-small", "medium-small", 128, 128, 1_000_000, 1.5e18, "17M"),
    PublishedRun("ConvBERT-base", "base", 128, 256, 1_000_000, 1.9e19, "106M"),
    PublishedRun("ConvBERT-small, longer", "small", 128, 128, 4_000_000, 5.2e18, "14M"),
    PublishedRun(
        "ConvBERT-medium-small, longer", "medium-small", 128, 128, 4_000_000, 6.0e18, "17M"
    ),
    PublishedRun("ConvBERT-base, longer", "base", 128, 256, 4_000_000, 7.6e19, "106M"),
)

_ABLATED_SIZES = ("small", "medium-small", "base")

_PAGE = """\
# Training cost

Written by `python docs/flops.py > docs/flops.md`; a test keeps it up to date.

Two accountings, because they answer different questions.

- **Papers' convention** (`electra`): what the ELECTRA and ConvBERT papers print, and the x-axis on
  which models are compared. A multiply-add is 2, other operations have constants per element
  (dropout 4, layer norm 5, GELU 8, softmax 5), an embedding lookup counts as a dense one-hot
  product, 20 of every 128 positions are predicted, and the backward pass counts as much as the
  forward pass.
- **Hardware** (`hardware`): what to divide by an accelerator's peak rate. Multiply-adds only,
  lookups are free, the vocabulary product covers the masked slots that exist (here 19 of 128, 79 of
  512; in a run as many as its mask rate needs), and the backward pass counts twice the forward
  pass. Recomputed activations are not counted again. The taps of the convolutions count as the
  multiply-adds they are, whether a kernel does them as a matrix product or as K shifted additions:
  at most 1 % of the total, so the utilization they lend to matrix units is negligible.

The optimizer is counted in neither.

## Published runs

{published}

ELECTRA's own script gives 1.294e18 for ELECTRA-small where its paper prints 1.4e18. ConvBERT has
published no script: its operators counted in ELECTRA's manner give the printed figures of small and
base, and 4 % more than the one of medium-small. The longer runs are four times the short ones.

## Local operators

Pretraining at length 128 with the recipe of each size: 1M updates, batch 128 (base 256). Operator
`attention` is ELECTRA of the same width and groups; heads and the generator follow each size.

{operators}

## Parameters

Tied embeddings are counted once. The encoder is what is exported and fine-tuned.

{parameters}
"""


def published_table() -> str:
    """Return the markdown table of published training costs beside the computed ones."""
    rows = []
    for run in PUBLISHED_RUNS:
        config = preset(run.preset)
        sequences = run.batch_size * run.updates
        papers, hardware = (
            sequences * training_flops_per_sequence(config, run.seq_len, convention)
            for convention in ("electra", "hardware")
        )
        rows.append(
            [
                run.name,
                str(run.seq_len),
                str(run.batch_size),
                f"{run.updates / 1e6:g}M",
                _scientific(run.flops, 1),
                _scientific(papers),
                f"{papers / run.flops:.3f}",
                _scientific(hardware),
            ]
        )
    header = "model, length, batch, updates, published, papers' convention, ratio, hardware"
    return _markdown(header.split(", "), rows)


def operators_table() -> str:
    """Return the markdown table of every local operator's cost at the three published sizes."""
    rows = []
    for size in _ABLATED_SIZES:
        run = next(run for run in PUBLISHED_RUNS if run.preset == size)
        for operator in get_args(LocalOp):
            config = preset(size, local_op=operator)
            papers, hardware = (
                run.batch_size
                * run.updates
                * training_flops_per_sequence(config, run.seq_len, convention)
                for convention in ("electra", "hardware")
            )
            encoder = parameter_counts(config).encoder.total
            rows.append(
                [size, operator, _scientific(papers), _scientific(hardware), f"{encoder:,}"]
            )
    header = ["size", "local operator", "papers' convention", "hardware", "encoder parameters"]
    return _markdown(header, rows, text_columns=2)


def parameters_table() -> str:
    """Return the markdown table of exact parameter counts beside the published ones."""
    rows = []
    for run in PUBLISHED_RUNS:
        if run.updates > 1_000_000:
            continue
        counts = parameter_counts(preset(run.preset))
        generator = counts.generator.body if counts.generator else 0
        parts = (
            counts.encoder.total,
            counts.encoder.embeddings,
            counts.head,
            generator,
            counts.generator_head,
            counts.total,
        )
        rows.append([run.name, run.parameters, *(f"{count:,}" for count in parts)])
    header = (
        "model, published, encoder, of it embeddings, head, generator body, generator head, "
        "pretraining total"
    )
    return _markdown(header.split(", "), rows)


def page() -> str:
    """Return the whole page."""
    return _PAGE.format(
        published=published_table(), operators=operators_table(), parameters=parameters_table()
    )


def _scientific(number: float, digits: int = 3) -> str:
    return f"{number:.{digits}e}".replace("e+", "e")


def _markdown(header: list[str], rows: list[list[str]], text_columns: int = 1) -> str:
    """Lay out a table of figures whose first columns are text."""
    rule = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


if __name__ == "__main__":
    print(page(), end="")
