"""Models and batches meet on one device, and a GPU gives what a CPU gives."""

import os

import numpy as np
import pytest
import torch
from synthetic_tasks import synthetic_task, write_synthetic

from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.ops.convolution import use_backend
from convbert.pretrain.evaluation.linear_probe import pooled_states
from convbert.pretrain.finetune.data import collate
from convbert.pretrain.finetune.device import compute_device, default_workers, visible_gpus
from convbert.pretrain.finetune.kinds import PROBLEMS, build_head, prepare
from convbert.pretrain.finetune.loop import finetune
from convbert.pretrain.finetune.model import TaskModel
from convbert.pretrain.finetune.task import load_task
from convbert.pretrain.finetune.workers import finetune_all

KINDS = [
    ("cola", []),
    ("cola", ["kind=regression", "labels=null", "metrics=[pearson]", "recipe.head=mlp"]),
    ("tags", []),
    ("qa", ["recipe.qa.head=simple"]),
    ("qa", ["recipe.qa.head=electra"]),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder)
    return folder


def prepared(name, files, tokenizer_dir, *settings):
    settings = ["recipe.max_length=64", "train_rows=64", "recipe.epochs=1", *settings]
    task = load_task(synthetic_task(name, files), None, settings)
    return prepare(task, Tokenizer.load(tokenizer_dir))


def config_for(data, **fields):
    shape = {"hidden_size": 32, "embedding_size": 16, "num_layers": 1, "num_heads": 2}
    shape |= {"intermediate_size": 32, "max_positions": 64} | fields
    return EncoderConfig(vocab_size=data.vocab_size, **shape)


@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_nothing_of_a_step_stays_on_the_cpu(files, tokenizer_dir, name, settings):
    data = prepared(name, files, tokenizer_dir, *settings)
    config = config_for(data)
    model = TaskModel(Encoder(config), build_head(data, config.hidden_size))
    # Tensors there have no contents, and PyTorch refuses to mix them with those of a CPU.
    model.to("meta")
    batch = collate(data.splits["train"], list(range(8)), data.pad_id).to(model.device)
    assert batch.attention_mask_BL is not None
    model.eval()(batch)
    scores = model.train()(batch)
    if settings != ["recipe.qa.head=electra"]:  # whose loss looks at the contents
        PROBLEMS[data.task.kind].loss(data.task, scores, batch).backward()
        assert all(p.grad.is_meta for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("operator", "backend", "name"),
    [(o, "eager", "qa") for o in ("sdconv", "dynamic", "lightweight", "conv", "attention")]
    # Short rows: without a GPU the kernels are interpreted.
    + [
        ("lightweight", "triton", "cola"),
        pytest.param("sdconv", "triton", "cola", marks=pytest.mark.slow),
    ],
)
def test_bf16_products_change_the_gradient_by_rounding_alone(
    files, tokenizer_dir, operator, backend, name
):
    data = prepared(name, files, tokenizer_dir, "recipe.dropout=0")
    torch.manual_seed(0)
    quiet = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "local_op": operator}
    config = config_for(data, **quiet)
    model = TaskModel(Encoder(config), build_head(data, config.hidden_size)).to(compute_device())
    batch = collate(data.splits["train"], list(range(4)), data.pad_id).to(model.device)
    gradients = []
    for enabled in (False, True):
        model.zero_grad()
        with use_backend(backend), torch.autocast(model.device.type, torch.bfloat16, enabled):
            loss = PROBLEMS[data.task.kind].loss(data.task, model(batch), batch)
        assert loss.dtype == torch.float32
        loss.backward()
        used = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        gradients.append(torch.cat(used))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999
    assert not torch.equal(*gradients)


def test_one_process_for_each_gpu_or_else_for_each_core(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,5")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert (default_workers(), visible_gpus()) == (3, ["4", "7", "5"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1", "2"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert (default_workers(), visible_gpus()) == (len(os.sched_getaffinity(0)), [])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("name", "settings"), KINDS)
def test_a_gpu_learns_what_a_cpu_learns(files, tokenizer_dir, name, settings):
    data = prepared(name, files, tokenizer_dir, *settings, "recipe.dropout=0")
    torch.manual_seed(0)
    encoder = Encoder(config_for(data, hidden_dropout=0.0, attention_dropout=0.0))
    on_cpu = finetune(encoder, data, seed=0, keep=True)
    encoder.to(compute_device())
    torch.cuda.reset_peak_memory_stats()
    on_gpu = finetune(encoder, data, seed=0, keep=True)
    assert torch.cuda.max_memory_allocated() > torch.cuda.memory_allocated()
    assert on_gpu.train_loss == pytest.approx(on_cpu.train_loss, rel=0.05)
    assert on_gpu.predictions.keys() == on_cpu.predictions.keys()
    (in_worker,) = finetune_all({"trained": encoder}, data, seeds=[0])["trained"]
    assert in_worker.train_loss == pytest.approx(on_gpu.train_loss, rel=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_probe_the_same_states(files, tokenizer_dir):
    data = prepared("cola", files, tokenizer_dir)
    torch.manual_seed(0)
    encoder = Encoder(config_for(data))
    on_cpu = pooled_states(encoder, data, "dev", "mean")
    on_gpu = pooled_states(encoder.to(compute_device()), data, "dev", "mean")
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-4)
