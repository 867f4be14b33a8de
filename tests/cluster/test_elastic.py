"""A run trains on as many nodes as can share its global batches."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from convbert.cluster.elastic import usable_nodes
from convbert.cluster.render import JobOptions
from convbert.cluster.site import load_site
from convbert.cluster.submit import submit_pretraining
from convbert.models.errors import UserError

NODES = ["node0", "node1", "node3"]


def configured(run: Path, settings: dict[str, Any]) -> Path:
    """Write the configuration of a run."""
    (run / "config.yaml").write_text(
        yaml.safe_dump({"steps": 10, "schedule": {"warmup_steps": 1}} | settings)
    )
    return run


@pytest.mark.parametrize(
    ("settings", "least", "count"),
    [
        ({"global_batch": 24}, 1, 3),
        ({"global_batch": 32}, 1, 2),  # three nodes of two processes cannot share 32 sequences
        ({"global_batch": 32}, 3, 0),
        ({"global_batch": 24, "micro_batch": 3}, 1, 2),  # nor 4 of each go in steps of 3
        ({"global_batch": 24, "phases": [{"start": 5, "global_batch": 16}]}, 1, 2),
        ({"global_batch": 24, "phases": [{"start": 5, "micro_batch": 3}]}, 1, 2),
    ],
)
def test_every_phase_can_be_shared(
    tmp_path: Path, settings: dict[str, Any], least: int, count: int
) -> None:
    run = configured(tmp_path, settings)
    assert usable_nodes(run, NODES, least=least, most=4, per_node=2) == NODES[:count]


def test_smallest_number_of_nodes_must_be_one_that_can_train(tmp_path: Path) -> None:
    run = configured(tmp_path, {"global_batch": 32})
    local = load_site("local")
    with pytest.raises(UserError, match=r"--min-nodes 3: global_batch=32 cannot be divided over 3"):
        submit_pretraining(run, local, JobOptions(nodes=4, min_nodes=3, dry_run=True))
    submit_pretraining(run, local, JobOptions(nodes=4, min_nodes=2, dry_run=True))
