"""The commands that show runs in a browser: report, watch."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli import completion
from convbert.pretrain.cli.arguments import between

app = typer.Typer()
RunDirs = Annotated[
    list[Path],
    typer.Argument(
        help="Directories of runs, or folders that hold some.",
        metavar="RUN...",
        autocompletion=completion.runs,
    ),
]


def _runs(places: list[Path], *, begun: bool) -> list[Path]:
    """Return the runs named; a folder that is none stands for those in it, or that have begun."""
    from convbert.pretrain.run.directory import RunDirectory, runs_in
    from convbert.pretrain.tracking.metrics_log import FILE_NAME

    found: list[Path] = []
    for place in places:
        below = [] if RunDirectory(place).config_file.is_file() else runs_in(place)
        kept = [run for run in below if not begun or (run / FILE_NAME).is_file()]
        found += kept or [place]
    return found


@app.command()
def report(
    runs: RunDirs,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page's file.")] = Path(
        "report.html"
    ),
    price: Annotated[
        float | None,
        typer.Option(help="Of a GPU-hour (process hour), for the costs.", callback=between(0)),
    ] = None,
) -> None:
    """Write one offline page about runs: all curves, accuracy against FLOPs, costs, settings."""
    from convbert.pretrain.cli.progress import counter
    from convbert.pretrain.report.page import write_report

    chosen = _runs(runs, begun=True)
    with counter(f"reading {len(chosen)} runs"):
        page = write_report(chosen, output, price)
    typer.echo(f"{page}: open it in a browser")


@app.command()
def watch(
    runs: RunDirs,
    port: Annotated[
        int, typer.Option(help="Port of this machine; default a free one.", min=0, max=65535)
    ] = 0,
    host: Annotated[
        str, typer.Option(help="Address of this machine that others do not reach.")
    ] = "127.0.0.1",
    refresh: Annotated[
        float, typer.Option(help="Seconds between two looks.", callback=between(1))
    ] = 5.0,
) -> None:
    """Show the page of runs in a browser while they train, on this machine alone."""
    import platform
    import signal
    from threading import Thread

    from convbert.pretrain.report.serve import Server, Watch, require_loopback

    chosen = _runs(runs, begun=False)
    server = Server(Watch(chosen, refresh), require_loopback(host), port)
    typer.echo(f"{', '.join(map(str, chosen))}: {server.url}")
    here = f"{server.server_port}:127.0.0.1:{server.server_port}"
    typer.echo(
        f"from another machine: ssh -N -L {here} {platform.node()}, then the same address there\n"
        "Ctrl-C ends it"
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    server.shutdown()
    server.server_close()
    typer.echo("ended")
