"""SLURM takes the job scripts of every shipped profile, where it has what the profile names."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from convbert.cluster import site_check, site_new
from convbert.cluster.render import JobOptions
from convbert.cluster.site import Site, load_site, site_names
from tests.slurm_local import daemons
from tests.slurm_local.configuration import LocalCluster, Node

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

TWO_NODES = JobOptions(nodes=2, time="1:00:00")


def nodes(name: str, site: Site) -> list[Node]:
    """Return two nodes with the partition, features and GRES that a profile names."""
    features = re.findall(r"[\w-]+", site.constraint or "")
    kind = f"{site.gpu_type}:" if site.gpu_type else ""
    return [
        Node(
            name=f"{name}-{number}",
            cpus=site.processes * site.cpus_per_task,
            memory=512_000,
            gres=f"gpu:{kind}{site.gpus_per_node}" if site.gpus_per_node else "",
            features=",".join(features),
            partition=site.partition,
        )
        for number in range(2)
    ]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """A controller whose nodes are those of all shipped profiles; nothing runs on them."""
    if shutil.which("slurmctld", path=daemons.search_path()) is None:
        pytest.skip(f"needs Debian's packages {daemons.PACKAGES}; `make test-slurm` installs them")
    state = Path(tempfile.mkdtemp(prefix="convbert-sites-"))
    imagined = [node for name in site_names() for node in nodes(name, load_site(name))]
    cluster = LocalCluster(state=state, imagined=imagined)
    daemons.start(cluster)
    try:
        yield cluster
    finally:
        daemons.stop(state)
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(autouse=True)
def _commands(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", str(cluster.config_file))


def test_shipped_profiles_are_those_of_the_page() -> None:
    page = Path(__file__).parents[3] / "docs" / "sites.md"
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", page.read_text(), re.M)) == site_names()


@pytest.mark.parametrize("name", site_names())
def test_every_kind_of_job_of_a_shipped_profile_is_accepted(name: str) -> None:
    assert list(site_check.refusals(load_site(name), TWO_NODES)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"partition": "nowhere"}, "invalid partition specified: nowhere"),
        ({"constraint": "h900"}, "Invalid feature specification"),
        ({"gpu_type": "b900", "gpus_per_node": 8}, "Requested node configuration is not available"),
        ({"sbatch": {"resevation": "x"}}, "unrecognized option '--resevation=x'"),
        ({"sbatch": {"mail-type": "SOMETIMES"}}, "Invalid --mail-type specification"),
        ({"srun": {"cpu-bindings": "x"}}, "a step: "),
    ],
)
def test_what_slurm_does_not_know_is_said_before_anything_is_queued(
    changes: dict[str, object], reason: str
) -> None:
    found = list(site_check.refusals(Site.model_validate(changes), JobOptions(time="10")))
    assert found
    assert all("\n" not in line for line in found)
    assert reason in found[0]


def test_new_profile_follows_what_slurm_says_and_is_accepted(tmp_path: Path) -> None:
    found = site_new.look()
    given = {"partition (- for none)": "booster", "account (- for none)": "abc@a100"}
    given["GPUs per node"] = "4"  # which sinfo does not show of nodes that nobody started
    content = site_new.answers(found, lambda question, default: given.get(question, default))
    site_new.write(tmp_path / "mine.yaml", content, found)
    site = load_site(str(tmp_path / "mine.yaml"))
    assert (site.partition, site.account, site.gpus_per_node) == ("booster", "abc@a100", 4)
    assert (site.cpus_per_task, site.memory) == (12, "512000M")
    assert list(site_check.refusals(site, TWO_NODES)) == []
    assert yaml.safe_load((tmp_path / "mine.yaml").read_text()).keys() < Site.model_fields.keys()
