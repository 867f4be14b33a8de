"""The two losses against their definitions, and their independence of how a batch is split."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from convbert.data_pipeline.loading.batch import Batch
from convbert.models.presets import preset
from convbert.models.pretraining import build_model
from convbert.pretrain.objective.losses import STATISTICS, Normalizers, build_objective, summarize
from convbert.pretrain.objective.masking import MaskedBatch, SpecialIds, mask_batch
from convbert.pretrain.settings.objective import MaskingConfig, ObjectiveConfig
from convbert.pretrain.settings.recipes import resolve

SPECIAL = SpecialIds(pad=0, cls=2, sep=3, mask=4)
SIZES = {"num_layers": 1, "hidden_size": 32, "embedding_size": 32, "num_heads": 2}
STILL = {"hidden_dropout": 0.0, "attention_dropout": 0.0}


def masked_batch(rows: int = 6, length: int = 32) -> MaskedBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 50, (rows, length), generator=generator)
    ids[:, 0] = SPECIAL.cls
    for row in range(rows):
        ids[row, length - row - 1] = SPECIAL.sep
        ids[row, length - row :] = SPECIAL.pad
    documents = (ids != SPECIAL.pad).long()
    batch = Batch(ids, torch.zeros_like(ids), documents, torch.arange(rows), False)
    return mask_batch(MaskingConfig(), SPECIAL, 0, batch)


def objective(name: str = "tiny", config: ObjectiveConfig | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model(preset(name, vocab_size=50, **SIZES, **STILL))
    return build_objective(model, config or ObjectiveConfig())


def counts(batch: MaskedBatch) -> Normalizers:
    return Normalizers(batch.valid_BM.sum().float(), (batch.document_ids_BL > 0).sum().float())


def test_loss_is_the_published_sum_of_both_parts() -> None:
    batch = masked_batch()
    module = objective()
    loss, statistics = module(batch, counts(batch))
    sums = dict(zip(STATISTICS, statistics.tolist(), strict=True))

    model = module.model
    mask = batch.document_ids_BL > 0
    hidden = model.generator(batch.masked_BL, attention_mask=mask)
    mlm = correct = 0.0
    corrupted = batch.input_ids_BL.clone()
    for row, slot in batch.valid_BM.nonzero().tolist():
        position = batch.slots_BM[row, slot]
        logits = model.generator_head(hidden[row, position][None])[0]
        target = batch.input_ids_BL[row, position]
        mlm += F.cross_entropy(logits[None], target[None]).item()
        correct += float(logits.argmax() == target)
        reached = logits.softmax(-1).double().cumsum(0)
        sampled = int((reached <= batch.uniforms_BM[row, slot].double()).sum())
        corrupted[row, position] = sampled
    labels = (corrupted != batch.input_ids_BL).float()
    logits = model.discriminator_head(model.discriminator(corrupted, attention_mask=mask))
    rtd = F.binary_cross_entropy_with_logits(logits[mask], labels[mask], reduction="sum").item()

    assert sums["mlm_loss"] == pytest.approx(mlm, rel=1e-5)
    assert sums["mlm_correct"] == correct
    assert sums["replaced"] == labels.sum()
    assert sums["rtd_loss"] == pytest.approx(rtd, rel=1e-5)
    expected = mlm / sums["mlm_slots"] + 50 * rtd / sums["rtd_tokens"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_a_sample_equal_to_the_original_counts_as_original() -> None:
    batch = masked_batch()
    module = objective()
    with torch.no_grad():  # a generator that always says 7, on text that is all 7
        module.model.generator_head.bias.fill_(-1e4)
        module.model.generator_head.bias[7] = 1e4
    ordinary = batch.input_ids_BL >= 5
    batch.input_ids_BL[ordinary] = 7
    _, statistics = module(batch, counts(batch))
    assert statistics[STATISTICS.index("replaced")] == 0


def test_gradients_do_not_depend_on_the_split() -> None:
    batch = masked_batch()
    module = objective()
    module(batch, counts(batch))[0].backward()
    whole = {n: p.grad.clone() for n, p in module.named_parameters()}
    module.zero_grad()
    for start, stop in ((0, 1), (1, 4), (4, 6)):
        module(batch.rows(start, stop), counts(batch))[0].backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6)


def test_no_gradient_flows_from_the_discriminator_to_the_generator() -> None:
    batch = masked_batch()
    module = objective(config=ObjectiveConfig(generator_weight=0.0))
    module(batch, counts(batch))[0].backward()
    for name, parameter in module.model.generator.named_parameters():
        if not name.startswith("embeddings"):
            assert parameter.grad is None or not parameter.grad.any(), name
    assert module.model.discriminator.embeddings.word.weight.grad.any()


def test_masked_language_modeling_alone() -> None:
    batch = masked_batch()
    loss, statistics = objective("bert-tiny")(batch, counts(batch))
    values = summarize(dict(zip(STATISTICS, statistics.tolist(), strict=True)))
    assert loss.item() == pytest.approx(values["loss/mlm"], rel=1e-6)
    assert values["loss/mlm"] == pytest.approx(math.log(50), rel=0.1)
    assert "loss/rtd" not in values


def random_operations(**dropout: float) -> set[str]:
    """The operations with random numbers in the training graph of a recipe's networks."""
    found: set[str] = set()

    def look(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        for part in graph.modules():
            nodes = part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ()
            found.update(str(node.target) for node in nodes)
        return graph

    torch._dynamo.reset()
    networks = resolve("small", [f"model.overrides={SIZES | dropout}"]).model.build(50)
    module = build_objective(build_model(networks).bfloat16(), ObjectiveConfig())
    batch = masked_batch(rows=2)
    torch.compile(module, backend=look, fullgraph=True)(batch, counts(batch))
    return {name for name in found if re.search("drop|rand|bernoulli|seed|checkpoint", name)}


def test_a_recipe_without_dropout_leaves_it_out_of_the_graph() -> None:
    assert random_operations(hidden_dropout=0.0, attention_dropout=0.0) == set()
    assert random_operations(hidden_dropout=0.0, attention_dropout=0.1) != set()


def test_rates_of_the_two_networks() -> None:
    sums = dict.fromkeys(STATISTICS, 0.0) | {
        "mlm_slots": 20.0,
        "rtd_loss": 30.0,
        "rtd_tokens": 100.0,
        "replaced": 8.0,
        "true_positives": 6.0,
        "predicted_positives": 12.0,
    }
    values = summarize(sums)
    assert values["generator/sampled_rate"] == 8 / 20
    assert values["discriminator/replaced_rate"] == 8 / 100
    assert values["discriminator/precision"] == 6 / 12
    assert values["discriminator/recall"] == 6 / 8
