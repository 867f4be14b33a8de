"""What SLURM says to the job scripts of a site, before anything is queued."""

import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

from convbert.cluster import scheduler
from convbert.cluster.follow import Evaluation, evaluation_script
from convbert.cluster.render import (
    JobOptions,
    render_corpus,
    render_pretraining,
    resources,
    srun_options,
)
from convbert.cluster.site import Site


def scripts(site: Site, folder: Path, options: JobOptions) -> dict[str, str]:
    """Return every kind of job script of a site, for stand-ins of a run and of a corpus."""
    runs = [folder / "run", folder / "other"]
    for run in runs:
        run.mkdir(exist_ok=True)
    corpus = folder / "corpus.yaml"
    corpus.write_text("inputs: [.]\n")
    tasks = {f"task{n}": folder for n in range(3)}
    return {
        "pretraining": render_pretraining(runs[:1], site, options, follow_seconds=60),
        "an array": render_pretraining(runs, site, options),
        "an evaluation": evaluation_script(runs[0], site, Evaluation(tasks=tasks), 1),
        "a corpus": render_corpus(corpus, folder / "built", site, options),
    }


def refusals(site: Site, options: JobOptions) -> Iterator[str]:
    """Yield ``KIND: SLURM's reason`` for each kind of job that SLURM would not queue.

    Raises ``AbsentError`` where there is no SLURM.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind, text in scripts(site, folder, options).items():
            script = folder / "script.sbatch"
            script.write_text(text)
            reason = scheduler.refusal(script, folder)
            if reason is not None:
                yield f"{kind}: {reason}"
    if site.srun:
        asked = resources(
            site, partition=options.partition, gpus=site.gpus_per_node, memory=None, exclusive=False
        )
        job = [f"--{key}={value}" for key, value in asked if value and key not in site.sbatch]
        steps = [shlex.split(option)[0] for option in srun_options(site)]
        reason = scheduler.step_refusal([*job, *steps])
        if reason is not None:
            yield f"a step: {reason}"
