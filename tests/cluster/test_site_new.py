"""A new profile: SLURM's answers are the defaults of the questions, and bad answers are refused."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from convbert.cluster import site_new
from convbert.cluster.site import load_site, site_names, site_path
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.cli import app

SINFO = """\
cpu*|128|257000|(null)|rome|3-00:00:00
gpu|64+|515000+|gpu:a100:4(S:0-1),nvme:1600|a100,ib|1-00:00:00
gpu|96|770000|gpu:h100:4|h100,ib|1-00:00:00
old|16|64000|gpu:2|(null)|infinite
"""
COMMANDS = {
    "sinfo": f"cat <<'E'\n{SINFO}E",
    "scontrol": "echo 'JobRequeue              = 0'",
    "sacctmgr": "printf 'abc@a100|normal,long\\ndef-me|normal\\n'",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cluster of three partitions; jobs are not requeued there."""
    for name, line in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_answers_of_slurm_are_the_defaults(slurm: Path) -> None:
    done = CliRunner().invoke(app, ["site", "new", "mine.yaml", "--yes"])
    assert done.exit_code == 0, done.output
    assert yaml.safe_load(Path("mine.yaml").read_text()) == {
        "partition": "gpu",
        "account": "abc@a100",
        "gpus_per_node": 4,
        "gpu_type": "a100",
        "cpus_per_task": 16,
        "memory": "515000M",
        "scratch": "${TMPDIR:-/tmp}",
    }
    text = Path("mine.yaml").read_text()
    assert "# your accounts: abc@a100, def-me\n" in text
    assert "# your QoS: normal, long\n" in text
    assert "# the cluster does not requeue jobs: submit with --chain\n" in text
    assert "next `convbert site check mine.yaml`" in done.output


def test_a_person_answers_otherwise(slurm: Path) -> None:
    given = ["old", "-", "long", "2", "-", "4", "60G", "/local/$USER", "ib0"]
    done = CliRunner().invoke(app, ["site", "new", "mine.yaml"], input="\n".join(given) + "\n")
    assert done.exit_code == 0, done.output
    site = load_site("mine.yaml")
    assert (site.partition, site.account, site.qos) == ("old", None, "long")
    assert (site.gpus_per_node, site.gpu_type, site.cpus_per_task) == (2, None, 4)
    assert (site.memory, site.scratch) == ("60G", "/local/$USER")
    assert site.network.interface == "ib0"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["nowhere"], "partition: there is no 'nowhere'; choose one of cpu, gpu, old"),
        (["gpu", "-", "-", "-", "two"], "GPUs per node: 'two' is not a whole number"),
        (["cpu", "a b", "-", "-", "0", "8", "-", "-", "-"], "account: must be one word"),
    ],
)
def test_bad_answers_are_refused_and_nothing_is_written(
    slurm: Path, given: list[str], text: str
) -> None:
    done = CliRunner().invoke(app, ["site", "new", "mine.yaml"], input="\n".join(given) + "\n")
    assert isinstance(done.exception, UserError)
    assert text in str(done.exception)
    assert not Path("mine.yaml").exists()


def test_places_and_clusters_that_will_not_do_are_refused(
    slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("there.yaml").write_text("")
    with pytest.raises(UserError, match=r"there\.yaml: exists already"):
        site_new.require_new(Path("there.yaml"))
    with pytest.raises(UserError, match=r"mine: name it with \.yaml"):
        site_new.require_new(Path("mine"))
    with pytest.raises(AbsentError, match="its directory does not exist"):
        site_new.require_new(Path("no/mine.yaml"))
    (slurm / "sinfo").write_text("#!/bin/bash\nexit 0\n")
    with pytest.raises(AbsentError, match="sinfo: shows no partition to you"):
        site_new.look()
    monkeypatch.setenv("PATH", str(slurm / "nothing"))
    with pytest.raises(AbsentError, match="sinfo: not found; run this where SLURM's"):
        site_new.look()


def test_every_profile_says_what_it_is_and_where_it_is_from() -> None:
    shown = CliRunner().invoke(app, ["site", "list", "--format", "json"]).stdout
    said = {row["profile"]: row["what for"] for row in json.loads(shown)["rows"]}
    for name in site_names():
        text = site_path(name).read_text()
        assert said[name]
        assert said[name] in " ".join(text.replace("#", "").split())
        if "Source: http" in text:
            assert "not run" in " ".join(text.replace("#", "").split()).lower()
    assert sum("Source: http" in site_path(name).read_text() for name in site_names()) == 10
