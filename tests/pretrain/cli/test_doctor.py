"""The doctor on this machine, and on what it has to find."""

import json
import os
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from convbert.pretrain.cli import app
from convbert.pretrain.engine.precision import computes_in_bfloat16


def looked_at(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    ran = CliRunner().invoke(app, ["doctor", "--format", "json", *arguments])
    rows = json.loads(ran.stdout.splitlines()[0])["rows"]
    return ran.exit_code, {row["what"]: row for row in rows}


def test_this_machine_can_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, found = looked_at("--runs", str(tmp_path / "runs" / "of me"))
    assert code == 0
    assert found["torch"]["found"] == version("torch")
    cores = f"{len(os.sched_getaffinity(0))} of {os.cpu_count()}"
    assert found["processor cores"]["found"] == cores
    bfloat16 = computes_in_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    assert found["precision=auto"]["found"] == ("bf16" if bfloat16 else "fp32")
    assert found["MLflow"]["found"] == f"sqlite:///{tmp_path}/runs/of me/mlflow.db"
    assert not list(tmp_path.iterdir())  # looking leaves nothing behind


def test_a_file_in_the_place_of_runs_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for place in (tmp_path / "runs", tmp_path / "runs" / "below"):
        code, found = looked_at("--runs", str(place))
        assert code == 1
        assert found["place of runs"]["found"] == f"{tmp_path / 'runs'} is a file"


@pytest.mark.parametrize(
    ("variable", "value", "what", "said", "code"),
    [
        ("CXX", "nowhere++", "compiler", "nowhere++", 0),
        ("MLFLOW_TRACKING_URI", "file:///tmp/x", "MLflow", "plain folders", 1),
        ("MLFLOW_TRACKING_URI", "http://127.0.0.1:9", "MLflow", "not reachable", 0),
        ("MLFLOW_TRACKING_URI", "sqlite:////nowhere/x.db", "MLflow", "no folder /nowhere", 1),
        ("NCCL_SOCKET_IFNAME", "^lo,e,d,v,b,w", "network interface", "NCCL_SOCKET_IFNAME", 0),
    ],
)
def test_what_is_missing_is_named(tmp_path, monkeypatch, variable, value, what, said, code):
    monkeypatch.setenv(variable, value)
    status, found = looked_at("--runs", str(tmp_path))
    if variable == "NCCL_SOCKET_IFNAME":  # what is left depends on the machine
        said = "" if found[what]["found"] != "none" else "network.interface"
    assert status == code
    assert said in " ".join(map(str, found[what].values()))
