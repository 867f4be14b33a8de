"""One HTML file with a slider over the checkpoints of a run, which needs nothing but itself.

The page of a run has the same slider in it, and the same look.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.templates import templates
from convbert.pretrain.show.notes import SUSPECTED, origin, position, remarks
from convbert.pretrain.show.records import MASK, Series


def write_page(series: Series, output: Path) -> Path:
    """Write the page about ``series``; return its path."""
    page = render(series)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def render(series: Series) -> str:
    """Return the page's HTML: every point is in it, the script shows one at a time."""
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            series=series,
            mask=MASK,
            suspected=SUSPECTED,
            looks=render_looks(series),
            style=part("base.css") + part("looks.css"),
            script=part("looks.js"),
        )
    )


def render_looks(series: Series) -> str:
    """Return the HTML of the slider and of every point; ``looks.css`` and ``looks.js`` go with it.

    There may be one of them on a page.
    """
    template = _templates().get_template("looks.html.j2")
    return template.render(series=series, mask=MASK, suspected=SUSPECTED)


@lru_cache
def part(name: str) -> str:
    """Return a style or script of this package, to be embedded in a page."""
    return (resources.files("convbert.pretrain.show") / name).read_text()


@lru_cache
def _templates() -> Environment:
    environment = templates("convbert.pretrain.show", html=True)
    environment.filters |= {"zip": zip, "origin": origin, "position": position, "remarks": remarks}
    return environment


def spread(steps: Sequence[int], most: int) -> list[int]:
    """Return at most ``most`` of the steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    places = (round(number * (len(steps) - 1) / (most - 1)) for number in range(most))
    return [steps[place] for place in places]
