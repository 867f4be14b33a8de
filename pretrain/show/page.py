"""One HTML file with a slider over the checkpoints of a run, which needs nothing but itself."""

from importlib import resources
from pathlib import Path

from convbert.data_pipeline.atomic import atomic_write
from convbert.data_pipeline.templates import templates
from convbert.pretrain.show.notes import SUSPECTED, origin, position, remarks
from convbert.pretrain.show.reader import MASK
from convbert.pretrain.show.series import Series


def write_page(series: Series, output: Path) -> Path:
    """Write the page about ``series``; return its path."""
    page = render(series)
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(page.encode())
    return output


def render(series: Series) -> str:
    """Return the page's HTML: every point is in it, the script shows one at a time."""
    folder = resources.files("convbert.pretrain.show")
    environment = templates("convbert.pretrain.show", html=True)
    environment.filters |= {"zip": zip, "origin": origin, "position": position, "remarks": remarks}
    return environment.get_template("page.html.j2").render(
        series=series,
        mask=MASK,
        suspected=SUSPECTED,
        style=(folder / "page.css").read_text(),
        script=(folder / "page.js").read_text(),
    )
