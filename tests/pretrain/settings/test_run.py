from pathlib import Path

import pytest

from convbert.models.errors import UserError
from convbert.models.schema import parse_yaml
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.settings.differences import differences
from convbert.pretrain.settings.recipes import load, recipe_names, resolve


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_resolves_and_survives_its_own_file(name: str, tmp_path) -> None:
    config = resolve(name)
    RunDirectory(tmp_path).prepare(config)
    assert resolve(str(tmp_path / "config.yaml")) == config.absolute()


def test_published_recipes() -> None:
    small, medium, base = (resolve(n) for n in ("small", "medium-small", "base"))
    assert [c.steps for c in (small, medium, base)] == [1_000_000] * 3
    assert [c.global_batch for c in (small, medium, base)] == [128, 128, 256]
    assert [c.optimizer.learning_rate for c in (small, medium, base)] == [3e-4, 5e-4, 2e-4]
    assert base.schedule.warmup_steps == 10_000
    assert base.objective.discriminator_weight == 50
    assert base.optimizer.eps == 1e-6
    assert not base.optimizer.bias_correction


def test_overrides_are_dotted_and_yaml() -> None:
    config = resolve("tiny", ["optimizer.betas=[0.9, 0.98]", "steps=300", "tracking.uri=off"])
    assert config.optimizer.betas == (0.9, 0.98)
    assert config.steps == 300
    assert config.tracking.uri == "off"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.learning_rte=1", "optimizer.learning_rte: unknown key"),
        ("steps=-3", r"steps: .*above 0.*-3"),
        ("steps", r"write it as key=value"),
        ("schedule.warmup_steps=5000", r"warmup_steps=5000 exceeds steps=2000: lower it"),
        ("precision=int8", "precision"),
    ],
)
def test_bad_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve("tiny", override.split())


def test_unknown_recipe_lists_the_known(tmp_path) -> None:
    with pytest.raises(
        UserError, match=r"'bse' is unknown; did you mean base\? choose one of base"
    ):
        resolve("bse")
    with pytest.raises(UserError, match="does not exist"):
        resolve(str(tmp_path / "absent.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,\n")
    with pytest.raises(UserError, match=r"not valid YAML: line 2, column 1: expected the node"):
        resolve(str(broken))
    for nothing in ("", "# steps: 60\n"):  # would train the default model for a million updates
        broken.write_text(nothing)
        with pytest.raises(UserError, match=r"broken\.yaml: has no settings; write some"):
            resolve(str(broken))


def test_a_setting_that_stands_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("optimizer: {clip: 1.0}\nsteps: 5\noptimizer: {learning_rate: 0.1}\n")
    with pytest.raises(
        UserError, match=r"config\.yaml: .* line 3, column 1: optimizer is there twi"
    ):
        load(path)
    # What a merged map (<<) and a key beside it both say is no key that stands twice.
    text = "a: &x {p: 1}\ntop: {deep: {b: &y {<<: *x, p: 3}}}\nc: {<<: *y}"
    assert parse_yaml(text, "here")["top"] == {"deep": {"b": {"p": 3}}}


def test_a_run_directory_stands_for_its_configuration(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "mine"):
        RunDirectory(Path(name)).prepare(resolve("small", ["seed=7"]))
    assert resolve("mine", ["seed=8"]) == resolve("small", ["seed=8"]).absolute()
    assert resolve("./tiny") == resolve("small", ["seed=7"]).absolute()
    assert resolve("tiny").model.preset == "tiny"  # the name of a recipe is never a directory
    with pytest.raises(UserError, match=r"path of a \.yaml file or of a run directory"):
        resolve("yours")


def test_differences_ignore_how_a_run_is_executed() -> None:
    old = resolve("tiny")
    same = resolve("tiny", ["deepspeed=zero3", "micro_batch=4", "checkpoint.every=7"])
    assert differences(old, same) == []
    other = resolve("tiny", ["optimizer.clip=2", "seed=9"])
    assert differences(old, other) == ["optimizer.clip: 1.0 -> 2.0", "seed: 0 -> 9"]


def test_data_comes_from_one_manifest_or_from_weighted_sources(tmp_path: Path) -> None:
    assert [s.manifest for s in resolve("tiny").data.blend] == ["shards/manifest.json"]
    blend = "data.sources=[{manifest: web, weight: 3}, {manifest: 's3://bucket/books'}]"
    config = resolve("tiny", [blend])
    assert config.data.manifest is None
    moved = config.absolute().data.blend
    assert [(s.manifest, s.weight) for s in moved] == [
        (str(Path("web").resolve()), 3.0),
        ("s3://bucket/books", 1.0),
    ]
    run = RunDirectory(tmp_path / "run")
    run.prepare(config)
    assert load(run.config_file) == run.open() == config.absolute()
    with pytest.raises(UserError, match="both manifest and sources are given; set"):
        resolve("tiny", ["data.manifest=web", blend])


def test_a_resumed_run_may_change_how_it_reads_but_not_what() -> None:
    start = resolve("tiny")
    reads = ["data.on_damage=skip", "data.cache=/scratch", "data.cache_gigabytes=5"]
    reads += ["data.stage=$SLURM_TMPDIR"]
    assert differences(start, resolve("tiny", reads)) == []
    assert differences(start, resolve("tiny", ["data.manifest=other"])) != []


@pytest.mark.parametrize("key", ["evaluation.held_out", "data.manifest", "tracking.experiment"])
@pytest.mark.parametrize("text", ["a\\0b", "\\ud800"])
def test_text_that_no_system_takes_is_refused(key: str, text: str) -> None:
    with pytest.raises(UserError, match=r"holds what no file name or text can"):
        resolve("tiny", [f'{key}="{text}"'])


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ("{name: small}", "model.preset names the size"),
        ("{vocab_size: 5}", "the shards decide it"),
        ("{hidden_size: {a: 1}}", "hidden_size: give a whole number"),
        ("{hidden_size: [1]}", "hidden_size: give a whole number"),
    ],
)
def test_overrides_of_the_model_that_cannot_be_are_refused(overrides: str, reason: str) -> None:
    config = resolve("tiny", [f"model.overrides={overrides}"])
    with pytest.raises(UserError, match=reason):
        config.model.build(1000)
