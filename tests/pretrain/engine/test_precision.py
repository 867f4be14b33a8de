"""A run that leaves its precision open gets what all its processes compute in."""

import os
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from convbert.models.errors import UserError
from convbert.pretrain.engine import precision
from convbert.pretrain.settings.deepspeed import (
    load_deepspeed_config,
    require_graphs,
    resolve_deepspeed_config,
)
from convbert.pretrain.settings.recipes import resolve

CPU = torch.device("cpu")

# One of two processes has instructions for bf16.
TWO = """
import os, torch, torch.distributed as dist
from convbert.pretrain.settings.recipes import resolve
from convbert.pretrain.engine import precision
dist.init_process_group("gloo")
precision.computes_in_bfloat16 = lambda device: dist.get_rank() == 0
print(precision.settle(resolve("tiny"), torch.device("cpu")).precision)
"""


@pytest.mark.parametrize(("capable", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_what_the_device_computes_in(alone, monkeypatch, capable, expected):
    monkeypatch.setattr(precision, "computes_in_bfloat16", lambda device: capable)
    config = resolve("quickstart")
    assert config.precision == "auto"
    assert precision.settle(config, CPU).precision == expected
    assert precision.settle(resolve("small", ["precision=fp16"]), CPU).precision == "fp16"


def test_the_processor_is_asked(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert not precision.computes_in_bfloat16(CPU)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert precision.computes_in_bfloat16(CPU)


def test_all_processes_compute_alike():
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    shared = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO],
            env=shared | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [p.communicate(timeout=120)[0].strip() for p in processes] == ["fp32", "fp32"]


@pytest.mark.parametrize(
    ("stage", "bits", "refused"),
    [("zero1", "bf16", False), ("zero2", "bf16", True), ("zero1", "fp32", True)],
)
def test_cuda_graphs_need_gradients_that_are_taken_at_once(stage, bits, refused):
    config = resolve_deepspeed_config(
        load_deepspeed_config(stage), precision=bits, micro_batch=1, accumulation=1, clip=1.0
    )
    if refused:
        with pytest.raises(UserError, match=r"cuda_graphs=true.*deepspeed=zero1"):
            require_graphs(config, compiled=True)
    else:
        require_graphs(config, compiled=True)
        with pytest.raises(UserError, match="compile=false: here only what is compiled"):
            require_graphs(config, compiled=False)
