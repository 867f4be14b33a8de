"""Site profiles: SLURM's names and options pass through, and what cannot be is said in words."""

from pathlib import Path

import pytest

from convbert.cluster.render import JobOptions, render_pretraining
from convbert.cluster.site import Site, load_site
from convbert.cluster.words import directive, expanded
from convbert.models.errors import UserError


def profile(folder: Path, content: str) -> Site:
    """Read a profile from a file."""
    path = folder / "mine.yaml"
    path.write_text(content)
    return load_site(str(path))


def script(folder: Path, content: str) -> list[str]:
    """Return the lines of a run's job script under a profile."""
    text = render_pretraining([folder], profile(folder, content), JobOptions(nodes=2))
    return text.splitlines()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("account: abc@a100", "--account=abc@a100"),
        ("account: 0123", "--account=0123"),  # not the octal number
        ("qos: 1:30", "--qos=1:30"),  # not ninety
        ("partition: no", "--partition=no"),  # not false
        ("partition: gpu,gpu-long", "--partition=gpu,gpu-long"),
        ("exclude: 'n[01-03,7],r[1-2]n4'", "--exclude=n[01-03,7],r[1-2]n4"),
        ("constraint: '[rack1*2&rack2*4]'", "--constraint=[rack1*2&rack2*4]"),
        ("constraint: (a100|h100)&!small", "--constraint=(a100|h100)&!small"),
        ("constraint: a100 & ib", '--constraint="a100 & ib"'),
        ("memory: 480", "--mem=480"),
        ("memory: 0", "--mem=0"),
        ("{gpus_per_node: 8, gpu_type: a100_80gb.1}", "--gres=gpu:a100_80gb.1:8"),
        ("{gpus_per_node: 8, sbatch: {gres: 'nvme:1600'}}", "--gres=gpu:8,nvme:1600"),
        ("{gpus_per_node: 4, gpu_request: gpus-per-node}", "--gpus-per-node=4"),
        ("sbatch: {reservation: my res}", '--reservation="my res"'),
        ("sbatch: {begin: 16:00}", "--begin=16:00"),
        ("sbatch: {mem-per-cpu: 4000}", "--mem-per-cpu=4000"),
        ("sbatch: {mail_type: [END, FAIL]}", "--mail-type=END,FAIL"),
        ("sbatch: {licenses: 'scratch@db:2'}", "--licenses=scratch@db:2"),
        ("sbatch: {--switches: 1@2:00}", "--switches=1@2:00"),
        ("sbatch: {contiguous: true}", "--contiguous"),
        ("sbatch: {comment: 'say \"hi\" \\n'}", r'--comment="say \"hi\" \\n"'),
    ],
)
def test_slurms_own_words_reach_it_as_they_are(tmp_path: Path, content: str, line: str) -> None:
    assert f"#SBATCH {line}" in script(tmp_path, content)


def test_profile_that_asks_for_no_gpus_by_an_option(tmp_path: Path) -> None:
    lines = script(tmp_path, "{gpus_per_node: 3, gpu_request: none}")
    assert "#SBATCH --ntasks-per-node=3" in lines
    assert not [line for line in lines if line.startswith("#SBATCH --g")]


def test_options_of_srun_reach_the_steps_that_train(tmp_path: Path) -> None:
    options = "{cpu-bind: 'mask_cpu:ff,ff00', mpi: none, exact: true, comment: $(id) x}"
    lines = script(tmp_path, f"srun: {options}")
    (launch,) = [line for line in lines if line.lstrip().startswith("srun --wait")]
    assert " --cpu-bind=mask_cpu:ff,ff00 --mpi=none --exact --comment='$(id) x' " in launch


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("partition: 'a b'", "partition: must be one word, without spaces (got 'a b')"),
        ("account: ''", "account: must be one word, without spaces (got '')"),
        ("memory: lots", "memory: must be a whole number with K, M, G or T, such as 480G"),
        ("scratch: '$(id)'", "scratch: only $NAME, ${NAME} and ${NAME:-VALUE} are expanded"),
        ("scratch: tmp", "scratch: must be an absolute path or begin with a variable"),
        ("environment: {'A=B': c}", "environment.A=B.[key]: a variable's name has letters"),
        ('constraint: "a\\n#SBATCH --uid=0"', "constraint: must be one line of printable"),
        ("sbatch: {p: x}", "sbatch: p: write an option's long name, as in `sbatch --help`"),
        ("sbatch: {account: x}", "sbatch: account: write it beside `sbatch:`, as the profile's"),
        ("sbatch: {mem: 4G}", "sbatch: mem: write it as the profile's memory"),
        ("sbatch: {gres: 'gpu:4'}", "sbatch: gres: GPUs are asked for by gpus_per_node"),
        ("sbatch: {time: 1}", "sbatch: time: `convbert submit` has an option for it"),
        ("sbatch: {output: x}", "sbatch: output: the job script needs it for itself"),
        ("sbatch: {mail-user: a, mail_user: b}", "sbatch: mail_user: stands there twice"),
        ("sbatch: {contiguous: false}", "sbatch: contiguous: is false; leave the option out"),
        ("sbatch: {comment: {a: b}}", "sbatch: comment: needs one line of text as its value"),
        ("sbatch: [contiguous]", "sbatch: must be a map of options"),
        ("srun: {ntasks: 4}", "srun: ntasks: the job script needs it for itself"),
        ("{memory: 4G, sbatch: {mem-per-cpu: 1G}}", "memory and sbatch.mem-per-cpu: SLURM takes"),
        ("gpu_per_node: 4", "gpu_per_node: unknown key; did you mean gpus_per_node?"),
        ("network: {kind: token-ring}", "network.kind: choose one of auto, ethernet, infiniband"),
    ],
)
def test_mistakes_are_said_in_words(tmp_path: Path, content: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        profile(tmp_path, content)
    message = str(caught.value)
    assert message.startswith(f"site {tmp_path / 'mine.yaml'}: {text}")
    assert "pattern" not in message
    assert "\n" not in message


def test_kept_profile_is_the_one_of_the_submission(tmp_path: Path) -> None:
    site = profile(tmp_path, "{account: 0123, sbatch: {contiguous: true, begin: 16:00}}")
    site.keep(tmp_path)
    assert Site.kept(tmp_path) == site


def test_only_variables_are_expanded() -> None:
    assert directive("a[1-2]&(b|c)") == "a[1-2]&(b|c)"
    assert expanded("/a b/$(id)`x`$5") == "'/a b/$(id)`x`$5'"
    assert expanded("$A/${B_1}/c") == '"${A-}"/"${B_1-}"/c'
    assert expanded("${A:-/tmp}/$$HOME") == "\"${A:-/tmp}\"/'$'HOME"
    assert expanded("$A", "scratch") == '"${A:?unset on this node, but scratch names it}"'
