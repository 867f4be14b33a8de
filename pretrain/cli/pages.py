"""The commands that show runs in a browser: report, watch."""

from pathlib import Path
from typing import Annotated

import typer

from convbert.pretrain.cli import completion
from convbert.pretrain.cli.arguments import between

app = typer.Typer()
RunDirs = Annotated[
    list[Path],
    typer.Argument(help="Directories of runs.", metavar="RUN...", autocompletion=completion.runs),
]


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

    with counter(f"reading {len(runs)} runs"):
        page = write_report(runs, output, price)
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

    server = Server(Watch(runs, refresh), require_loopback(host), port)
    typer.echo(f"{', '.join(map(str, runs))}: {server.url}")
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
