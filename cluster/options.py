"""SLURM's own options in a site profile: the maps ``sbatch:`` and ``srun:``.

Every long option that SLURM knows may stand there, except those that the job scripts need for
themselves. Whether SLURM knows an option, and takes its value, SLURM says itself
(``convbert site check``).
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated

from pydantic import BeforeValidator

Options = dict[str, str | None]
"""Option without its dashes, and its value; None for an option that takes none."""

_SCRIPT = "the job script needs it for itself; leave it out"
_SUBMIT = "`convbert submit` has an option for it; leave it out"
_RESERVED = {
    "sbatch": {
        **dict.fromkeys(("account", "partition", "qos", "constraint", "exclude"), "the profile's"),
        "exclusive": "the profile's",
        "cpus-per-task": "the profile's",
        "mem": "the profile's memory",
        **dict.fromkeys(
            ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket", "ntasks-per-gpu"),
            "the profile's gpus_per_node, with gpu_type and gpu_request",
        ),
        **dict.fromkeys(("nodes", "time", "dependency", "array"), _SUBMIT),
        **dict.fromkeys(("requeue", "no-requeue"), f"{_SUBMIT} (--chain)"),
        "signal": f"{_SUBMIT} (--grace-seconds)",
        **dict.fromkeys(
            ("job-name", "output", "error", "input", "open-mode", "chdir", "ntasks", "wrap")
            + ("ntasks-per-node", "parsable", "test-only", "wait", "kill-on-invalid-dep"),
            _SCRIPT,
        ),
    },
    "srun": dict.fromkeys(
        ("nodes", "ntasks", "ntasks-per-node", "cpus-per-task", "nodelist", "exclude", "time")
        + ("kill-on-bad-exit", "wait", "output", "error", "input", "overlap", "jobid", "pty")
        + ("multi-prog", "test-only", "chdir", "container-image", "container-mounts")
        + ("container-name",),
        _SCRIPT,
    ),
}


def _options(program: str, content: object) -> object:
    """Return checked options; raise ``ValueError`` in words, which pydantic reports."""
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError("must be a map of options, such as {reservation: maintenance}")
    found: dict[str, str | None] = {}
    for key, value in content.items():
        name = str(key).removeprefix("--").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or len(name) == 1:
            raise ValueError(f"{key}: write an option's long name, as in `{program} --help`")
        if name in found:
            raise ValueError(f"{key}: stands there twice")
        owner = _RESERVED[program].get(name)
        if owner == "the profile's":
            raise ValueError(f"{key}: write it beside `{program}:`, as the profile's own key")
        if owner is not None and owner.startswith("the profile's "):
            raise ValueError(f"{key}: write it as {owner}")
        if owner is not None:
            raise ValueError(f"{key}: {owner}")
        found[name] = _value(key, value)
    if program == "sbatch" and "gpu" in (found.get("gres") or ""):
        raise ValueError("gres: GPUs are asked for by gpus_per_node; name only the others here")
    return found


def _value(key: object, value: object) -> str | None:
    if value is None or value is True or str(value).lower() == "true":
        return None
    if value is False or str(value).lower() == "false":
        raise ValueError(f"{key}: is false; leave the option out")
    if isinstance(value, list):
        value = ",".join(map(str, value))
    if isinstance(value, Mapping) or not str(value).isprintable() or not str(value).strip():
        raise ValueError(f"{key}: needs one line of text as its value, or `true` for none")
    return str(value)


SbatchOptions = Annotated[Options, BeforeValidator(partial(_options, "sbatch"))]
SrunOptions = Annotated[Options, BeforeValidator(partial(_options, "srun"))]
