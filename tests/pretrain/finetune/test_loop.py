"""Fine-tuning learns, repeats itself exactly, and sets the published layer-wise rates."""

import random

import pytest
import torch

from convbert.data_pipeline.tokenizer.training import train_tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.pretrain.engine.optimizer import AdamW
from convbert.pretrain.finetune.data import evaluation_batches
from convbert.pretrain.finetune.kinds import build_head, prepare
from convbert.pretrain.finetune.layer_rates import parameter_groups, rate_factor
from convbert.pretrain.finetune.loop import finetune, set_rates
from convbert.pretrain.finetune.model import SentenceHead, TaskModel
from convbert.pretrain.finetune.recipe import FinetuneConfig
from convbert.pretrain.finetune.task import TaskSpec
from convbert.pretrain.finetune.workers import finetune_all
from convbert.pretrain.run.curve import Spread

WORDS = [a + b for a in ("ba", "do", "ki", "lu", "me", "po") for b in ("ran", "sit", "tol", "vex")]
GOOD, BAD, NEUTRAL = WORDS[:4], WORDS[4:8], WORDS[8:]


def sentence(rng, cue):
    words = rng.choices(NEUTRAL, k=rng.randint(2, 6))
    words.insert(rng.randrange(len(words) + 1), cue)
    return " ".join(words)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=8)) for _ in range(300)]
    folder = tmp_path_factory.mktemp("tokenizer") / "words"
    return train_tokenizer(texts, folder, vocab_size=300, threads=1)


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    rng = random.Random(1)
    rows = [(sentence(rng, rng.choice(GOOD if i % 2 else BAD)), i % 2) for i in range(600)]
    file = tmp_path_factory.mktemp("task") / "mood.csv"
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return TaskSpec(
        name="mood",
        train=file,
        text=["text"],
        metrics=["accuracy", "f1"],
        recipe=FinetuneConfig(learning_rate=3e-3, layer_decay=1.0, max_length=32),
    )


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return Encoder(config_for(tokenizer))


def config_for(tokenizer, **fields):
    shape = {"hidden_size": 32, "embedding_size": 16, "num_layers": 2, "num_heads": 2}
    shape |= {"intermediate_size": 64, "max_positions": 64, "hidden_dropout": 0.0} | fields
    return EncoderConfig(vocab_size=tokenizer.vocab_size, **shape)


def test_it_learns_a_simple_task_and_leaves_the_encoder_alone(encoder, tokenizer, task):
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    random_state = torch.get_rng_state()
    result = finetune(encoder, prepare(task, tokenizer), seed=0)
    assert result.score == result.scores["dev"]["accuracy"] > 0.95
    assert set(result.scores) == {"dev"}
    assert all(torch.equal(before[name], t) for name, t in encoder.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())


def test_a_seed_decides_everything(encoder, tokenizer, task):
    data = prepare(task.model_copy(update={"train_rows": 64}), tokenizer)
    first, again, other = (finetune(encoder, data, seed=s) for s in (1, 1, 2))
    assert (first.train_loss, first.scores) == (again.train_loss, again.scores)
    assert first.train_loss != other.train_loss


def test_parallel_runs_give_the_same_results_as_one_process(encoder, tokenizer, task):
    data = prepare(task.model_copy(update={"train_rows": 64}), tokenizer)
    heard = []
    results = finetune_all(
        {"trained": encoder, "random": encoder.config},
        data,
        seeds=[0, 1],
        workers=2,
        on_result=lambda label, result: heard.append((label, result.seed)),
    )
    assert sorted(heard) == [(label, s) for label in ("random", "trained") for s in (0, 1)]
    assert [r.seed for r in results["trained"]] == [0, 1]
    here = finetune(encoder, data, seed=1)
    assert results["trained"][1].train_loss == here.train_loss
    assert results["trained"][1].scores == here.scores
    torch.manual_seed(1)
    fresh = finetune(Encoder(encoder.config), data, seed=1)
    assert results["random"][1].train_loss == fresh.train_loss
    spread = Spread.of([r.scores["dev"]["accuracy"] for r in results["trained"]])
    assert spread.low <= spread.median <= spread.high
    assert spread.scores == [r.score for r in results["trained"]]


def test_a_tokenizer_that_does_not_fit_is_refused_before_any_work(tokenizer, task):
    data = prepare(task.model_copy(update={"train_rows": 64}), tokenizer)
    wrong = config_for(tokenizer).model_copy(update={"vocab_size": 99})
    with pytest.raises(UserError, match=r"mood: the tokenizer has \d+ ids, the encoder 99;"):
        finetune_all({"random": wrong}, data, seeds=[0], workers=1)


def test_rows_longer_than_the_positions_are_refused(tokenizer, task):
    recipe = task.recipe.model_copy(update={"max_length": 65})
    with pytest.raises(UserError, match="max_length=65 exceeds the encoder's 64 positions"):
        finetune(
            Encoder(config_for(tokenizer)),
            prepare(task.model_copy(update={"recipe": recipe}), tokenizer),
            seed=0,
        )


def test_regression_on_pairs(tokenizer, tmp_path):
    rng = random.Random(2)
    lines = ["first\tsecond\tscore\n"]
    for _ in range(600):
        good = rng.randint(0, 1)
        pair = [
            sentence(rng, rng.choice(GOOD if good else BAD)),
            sentence(rng, rng.choice(NEUTRAL)),
        ]
        lines.append("\t".join([*pair, f"{4.0 * good + rng.random():.2f}"]) + "\n")
    (tmp_path / "pairs.tsv").write_text("".join(lines))
    task = TaskSpec(
        name="pairs",
        kind="regression",
        train=tmp_path / "pairs.tsv",
        text=["first", "second"],
        label="score",
        label_scale=5.0,
        metrics=["pearson", "spearman"],
        swap_pairs=True,
        recipe=FinetuneConfig(learning_rate=3e-3, layer_decay=1.0, max_length=48),
    )
    data = prepare(task, tokenizer)
    assert len(data.splits["train"]) + 2 * len(data.splits["dev"]) > 1000  # doubled by swapping
    torch.manual_seed(0)
    result = finetune(Encoder(config_for(tokenizer)), data, seed=0)
    assert result.scores["dev"]["pearson"] > 0.9
    assert result.metric == "pearson"


@pytest.mark.parametrize(
    ("name", "correct", "paper"),
    [
        ("head.output.weight", 1.0, 1.0),
        ("encoder.layers.11.attention.in_proj.weight", 0.8, 0.64),
        ("encoder.layers.0.feedforward.up.bias", 0.8**12, 0.055),
        ("encoder.embeddings.word.weight", 0.8**13, 0.044),
        ("encoder.project.weight", 0.8**13, 0.044),
    ],
)
def test_layer_wise_rates_of_twelve_layers(name, correct, paper):
    assert rate_factor(name, 12, 0.8, "correct") == pytest.approx(correct)
    assert rate_factor(name, 12, 0.8, "paper") == pytest.approx(paper, abs=5e-4)


def test_every_parameter_is_in_one_group_with_its_rate_and_decay(encoder):
    model = TaskModel(encoder, SentenceHead(encoder.config.hidden_size, 2, FinetuneConfig()))
    groups = parameter_groups(model, 0.8, "correct", 0.01)
    names = {id(p): name for name, p in model.named_parameters()}
    grouped = [names[id(p)] for g in groups for p in g["params"]]
    assert sorted(grouped) == sorted(names.values())
    decay = {names[id(p)]: g["weight_decay"] for g in groups for p in g["params"]}
    assert decay["head.output.weight"] == decay["encoder.embeddings.word.weight"] == 0.01
    assert decay["head.output.bias"] == decay["encoder.embeddings.norm.weight"] == 0.0

    optimizer = AdamW(groups)
    recipe = FinetuneConfig(learning_rate=1e-3, warmup=0.1)
    set_rates(optimizer, recipe, step=50, total=100)
    rates = {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates["head.output.weight"] == pytest.approx(0.5e-3)
    assert rates["encoder.layers.1.attention.out_proj.weight"] == pytest.approx(0.4e-3)
    assert rates["encoder.embeddings.word.weight"] == pytest.approx(0.5e-3 * 0.8**3)


def test_the_classifier_reads_the_first_position_only(encoder, tokenizer, task):
    data = prepare(task, tokenizer)
    model = TaskModel(encoder, build_head(data, encoder.config.hidden_size)).eval()
    batch = next(evaluation_batches(data, "dev", size=4))
    hidden = encoder(
        batch.input_ids_BL,
        token_type_ids=batch.token_type_ids_BL,
        attention_mask=batch.attention_mask_BL,
    )
    expected = hidden[:, 0] @ model.head.output.weight.T + model.head.output.bias
    torch.testing.assert_close(model(batch), expected)
