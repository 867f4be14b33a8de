"""Fine-tuned models in Hugging Face format: transformers' pipelines load them and agree."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, pipeline

from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.architecture import EncoderConfig
from convbert.models.encoder import Encoder
from convbert.models.errors import UserError
from convbert.models.interop.hf import save_pretrained
from convbert.pretrain.evaluation.finetuning import FinetuneOptions, finetune_directory
from convbert.pretrain.evaluation.finished import FinishedSeeds
from convbert.pretrain.evaluation.kept_models import RECORD, KeptModels, require_all_keepable
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.keeping import write_task_model
from convbert.pretrain.finetune.kinds import build_head, prepare
from convbert.pretrain.finetune.loop import FinetuneResult, finetune, predict
from convbert.pretrain.finetune.model import TaskModel
from convbert.pretrain.finetune.task import load_task

TEXTS = [
    "names refer to objects", "the class statement defines a class", "an assignment binds a name",
    "a loop ends with break", "exceptions are raised and caught", "modules import each other",
]  # fmt: skip
SENTENCES: dict[str, Any] = {
    "name": "mood", "train": "mood.csv", "dev": "mood.csv", "text": ["text"],
    "labels": ["bad", "good", "so so"], "metrics": ["accuracy"], "recipe": {"max_length": 24},
}  # fmt: skip
PAIRS = SENTENCES | {"name": "pairs", "text": ["text", "text2"]}
NUMBERS: dict[str, Any] = {
    "name": "grade", "kind": "regression", "train": "grade.csv", "dev": "grade.csv",
    "text": ["text"], "label": "grade", "label_scale": 5.0, "metrics": ["pearson"],
    "recipe": {"max_length": 24},
}  # fmt: skip
TAGS: dict[str, Any] = {
    "name": "tags", "kind": "tagging", "train": "tags.conll", "dev": "tags.conll",
    "header": ["words", "tag"], "text": ["words"], "label": "tag", "metrics": ["accuracy"],
    "recipe": {"max_length": 24},
}  # fmt: skip
QUESTIONS: dict[str, Any] = {
    "name": "qa", "kind": "qa", "train": "qa.json", "dev": "qa.json",
    "text": ["question", "context"], "label": "answers", "metrics": ["f1"],
    "recipe": {"max_length": 48, "qa": {"head": "simple", "max_query": 16}},
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tokenizer_dir: Path) -> Tokenizer:
    return Tokenizer.load(tokenizer_dir)


def encoder(tokenizer: Tokenizer, **shape: Any) -> Encoder:
    torch.manual_seed(0)
    fields = {"hidden_size": 32, "embedding_size": 16, "num_layers": 2, "num_heads": 4}
    fields |= {"intermediate_size": 32, "max_positions": 64, "vocab_size": tokenizer.vocab_size}
    made = Encoder(EncoderConfig(**(fields | shape)))
    for name, parameter in made.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm.weight" in name), std=0.3)
    return made.eval()


def prepared(folder: Path, task: dict[str, Any], tokenizer: Tokenizer, **recipe: Any) -> TaskData:
    rows = [f"{t},{t} too,{('bad', 'good', 'so so')[i % 3]}" for i, t in enumerate(TEXTS)]
    (folder / "mood.csv").write_text("\n".join(["text,text2,label", *rows]) + "\n")
    grades = [f"{text},{i / 2}" for i, text in enumerate(TEXTS)]
    (folder / "grade.csv").write_text("\n".join(["text,grade", *grades]) + "\n")
    words = ("".join(f"{w} {'N' if len(w) > 4 else 'x'}\n" for w in t.split()) for t in TEXTS)
    (folder / "tags.conll").write_text("\n".join(words))
    answers = [
        {
            "context": text,
            "qas": [{
                "id": str(i), "question": "what is it", "is_impossible": False,
                "answers": [{"text": text.split()[-1], "answer_start": text.rindex(" ") + 1}],
            }],
        }
        for i, text in enumerate(TEXTS)
    ]  # fmt: skip
    (folder / "qa.json").write_text(json.dumps({"data": [{"paragraphs": answers}]}))
    content = task | {"recipe": task["recipe"] | recipe}
    (folder / "task.yaml").write_text(yaml.safe_dump(content))
    return prepare(load_task(str(folder / "task.yaml")), tokenizer)


def kept(folder: Path, start: Encoder, data: TaskData, tokenizer: Tokenizer) -> TaskModel:
    """Write a network with random heads as the best model; return it."""
    model = TaskModel(start, build_head(data, start.config.hidden_size)).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    finished = FinishedSeeds(folder, data, {"step 1": start}, keep=False)
    models = KeptModels(folder, data, {"step 1": start}, finished, tokenizer)
    place = models.place("step 1", 0)
    assert place is not None
    write_task_model(model, data, place)
    models.add("step 1", result(0, 0.5, data))
    return model


def result(seed: int, score: float, data: TaskData) -> FinetuneResult:
    task = data.task
    return FinetuneResult(
        task=task.name, metric=task.metric, seed=seed, scores={"dev": {task.metric: score}},
        train_loss=0.1, seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("operator", ["sdconv", "attention"])
def test_classifiers_agree(head: str, operator: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = prepared(tmp_path, SENTENCES, tokenizer, head=head)
    start = encoder(tokenizer, local_op=operator)
    model = kept(tmp_path / "out", start, data, tokenizer)
    classify = pipeline("text-classification", model=str(tmp_path / "out/models/step-1"))
    assert classify.model.config.id2label == {0: "bad", 1: "good", 2: "so so"}
    found = classify(TEXTS, top_k=None, truncation=True)
    seen = []
    with torch.no_grad():
        for text, answers in zip(TEXTS, found, strict=True):
            ids = [tokenizer.cls_id, *tokenizer.encode_batch([text])[0], tokenizer.sep_id]
            hidden = start(torch.tensor([ids]))
            scores = model.head.output(
                hidden[:, 0] if head == "linear"
                else torch.nn.functional.gelu(model.head.dense(hidden[:, 0]))
            )  # fmt: skip
            expected = dict(zip(data.class_names, scores.softmax(1)[0].tolist(), strict=True))
            for answer in answers:
                assert answer["score"] == pytest.approx(expected[answer["label"]], abs=1e-5)
            seen.append(expected["bad"])
    assert max(seen) - min(seen) > 1e-3
    best = [max(answers, key=lambda a: a["score"])["label"] for answers in found]
    assert best == [data.class_names[i] for i in predict(model, data, "dev")]


def test_pairs_and_numbers_agree(tokenizer: Tokenizer, tmp_path: Path) -> None:
    start = encoder(tokenizer)
    data = prepared(tmp_path, PAIRS, tokenizer)
    model = kept(tmp_path / "pairs", start, data, tokenizer)
    classify = pipeline("text-classification", model=str(tmp_path / "pairs/models/step-1"))
    found = [classify({"text": t, "text_pair": f"{t} too"}, truncation=True) for t in TEXTS]
    labels = [data.class_names[i] for i in predict(model, data, "dev")]
    assert [answer["label"] for answer in found] == labels

    data = prepared(tmp_path, NUMBERS, tokenizer)
    model = kept(tmp_path / "numbers", start, data, tokenizer)
    grade = pipeline("text-classification", model=str(tmp_path / "numbers/models/step-1"))
    found = grade(TEXTS)
    assert {answer["label"] for answer in found} == {"grade"}
    scores = [answer["score"] for answer in found]
    # In the units of the labels; rows are padded there and hidden from the convolution.
    for row, text in enumerate(TEXTS):
        alone = prepared_alone(data, row)
        (expected,) = predict(model, alone, "dev")
        assert scores[row] == pytest.approx(expected, rel=1e-5, abs=1e-5), text


def prepared_alone(data: TaskData, row: int) -> TaskData:
    """The same task with one row to measure on: nothing is padded."""
    dev = data.splits["dev"].of([row])
    examples = {"dev": [data.examples["dev"][row]]}
    return TaskData(
        data.task, data.class_names, data.pad_id, data.vocab_size, {"dev": dev}, examples
    )


def test_taggers_agree(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = prepared(tmp_path, TAGS, tokenizer)
    model = kept(tmp_path / "out", encoder(tokenizer), data, tokenizer)
    tag = pipeline(
        "token-classification",
        model=str(tmp_path / "out/models/step-1"),
        aggregation_strategy="none",
        ignore_labels=[],
    )
    assert tag.model.config.id2label == dict(enumerate(data.class_names))
    for row, text in enumerate(TEXTS):
        (expected,) = predict(model, prepared_alone(data, row), "dev")
        features = data.splits["dev"]
        tokens = {token["index"]: token for token in tag(text)}
        assert [tokens[place]["entity"] for place in features.places[row]] == expected
        with torch.no_grad():
            hidden = model.encoder(torch.tensor([features.input_ids[row]]))
            best = model.head.output(hidden).softmax(2)[0].amax(1)
        for place, token in tokens.items():
            assert token["score"] == pytest.approx(best[place].item(), abs=1e-5)


def test_answers_agree(tokenizer: Tokenizer, tmp_path: Path) -> None:
    data = prepared(tmp_path, QUESTIONS, tokenizer)
    start = encoder(tokenizer)
    model = kept(tmp_path / "out", start, data, tokenizer)
    loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out/models/step-1").eval()
    row = data.splits["dev"]
    ids = torch.tensor([row.input_ids[0]])
    types = torch.tensor([row.token_type_ids[0]])
    with torch.no_grad():
        theirs = loaded(ids, token_type_ids=types)
        ours = model.head.output(start(ids, token_type_ids=types))
    logits = torch.stack([theirs.start_logits, theirs.end_logits], dim=2)
    assert torch.allclose(logits, ours, atol=1e-5, rtol=0)


def test_the_best_seed_is_kept_and_measured_again_if_its_model_is_gone(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    data, start = prepared(tmp_path, SENTENCES, tokenizer, epochs=1), encoder(tokenizer)
    starts: dict[str, Any] = {"step 1": start, "from random weights": start.config}
    finished = FinishedSeeds(tmp_path / "out", data, starts, keep=False)
    models = KeptModels(tmp_path / "out", data, starts, finished, tokenizer)
    assert models.place("from random weights", 0) is None
    written = {}
    for seed, score in ((0, 0.5), (1, 0.7), (2, 0.7), (3, float("nan"))):
        place = models.place("step 1", seed)
        assert place is not None
        finetune(start, data, seed=seed, model_to=place)
        written[seed] = (place / "model.safetensors").read_bytes()
        models.add("step 1", result(seed, score, data))
    folder = tmp_path / "out/models/step-1"
    assert (folder / "model.safetensors").read_bytes() == written[1] != written[0]
    assert [path.name for path in (tmp_path / "out/models").iterdir()] == ["step-1"]
    record = json.loads((folder / RECORD).read_text())
    assert record["result"]["seed"] == 1
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 24
    assert Tokenizer.load(folder).digest == tokenizer.digest

    results = [result(seed, score, data) for seed, score in ((0, 0.5), (1, 0.7))]
    assert models.known("step 1", results) == results
    better = [*results, result(4, 0.9, data)]
    assert models.known("step 1", better) == results
    (folder / RECORD).unlink()
    assert models.known("step 1", results) == results[:1]
    assert models.known("from random weights", results) == results
    torch.manual_seed(5)
    other = {"step 1": Encoder(start.config)}
    again = KeptModels(
        tmp_path / "out", data, other, FinishedSeeds(tmp_path, data, other, keep=False), tokenizer
    )
    assert again.known("step 1", results) == results[:1]


@pytest.mark.parametrize(
    ("task", "recipe", "shape", "reason"),
    [
        (QUESTIONS, {"qa": {"head": "electra"}}, {}, "recipe.qa.head=electra, only simple"),
        (SENTENCES, {"pooling": "mean"}, {}, "recipe.pooling=mean, only cls"),
        (SENTENCES, {}, {"hidden_size": 4}, "a linear head of 3 labels .* recipe.head=mlp"),
        (SENTENCES, {}, {"local_op": "dynamic"}, "transformers has no local_op=dynamic"),
    ],
    ids=["electra's span head", "mean", "many labels", "operator"],
)
def test_what_transformers_cannot_hold_is_refused_before_training(
    task: dict[str, Any],
    recipe: dict[str, Any],
    shape: dict[str, Any],
    reason: str,
    tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    data = prepared(tmp_path, task, tokenizer, **recipe)
    with pytest.raises(UserError, match=f"task {task['name']}: the model cannot be kept.*{reason}"):
        require_all_keepable({"step 1": encoder(tokenizer, **shape)}, [data])
    assert not FinetuneOptions().keep_model


@pytest.mark.slow
def test_a_fine_tuning_keeps_its_best_model_and_repeats_nothing(
    tokenizer: Tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared(tmp_path, SENTENCES, tokenizer, epochs=30, learning_rate=0.003)
    task = load_task(str(tmp_path / "task.yaml"))
    save_pretrained(encoder(tokenizer), tmp_path / "model")
    save_hf_tokenizer(tokenizer, tmp_path / "model", 64)
    options = FinetuneOptions(seeds=2, workers=1, predict=True, keep_model=True)
    arguments = (tmp_path / "model", None, [task], options, tmp_path / "out")
    ((results,),) = (finetune_directory(*arguments)[0].starts,)
    folder = tmp_path / "out/mood/models/model"
    classify = pipeline("text-classification", model=str(folder))
    found = [answer["label"] for answer in classify(TEXTS, truncation=True)]
    gold = [("bad", "good", "so so")[i % 3] for i in range(len(TEXTS))]
    right = sum(a == b for a, b in zip(found, gold, strict=True)) / len(gold)
    best = json.loads((folder / RECORD).read_text())["result"]
    assert right == pytest.approx(best["scores"]["dev"]["accuracy"])
    assert best["seed"] == max(results.results, key=FinetuneResult.rank).seed
    finetune_directory(*arguments)
    assert "2 of 2 seeds were measured before" in caplog.text
