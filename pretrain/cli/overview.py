"""The order in which ``--help`` shows the commands, and an example of each."""

import typer

from convbert.pretrain.cli.settings_command import Command

GROUPS: dict[str, dict[str, str]] = {
    "Text to shards": {
        "corpus fetch": "corpus fetch wikitext-2 -o corpus",
        "corpus build": "corpus build english.yaml -o corpus",
        "corpus list": "corpus list",
        "corpus plan": "corpus plan --terabytes 0.2 --nodes 2",
        "corpus submit": "corpus submit english.yaml -o corpus --site cpu --nodes 4",
        "tokenizer train": "tokenizer train corpus/*.jsonl -o tokenizer --vocab-size 30522",
        "tokenizer report": "tokenizer report tokenizer held-out.jsonl",
        "shards build": "shards build corpus/*.jsonl -o shards -t tokenizer --seq-len 128",
        "shards tokenize": "shards tokenize corpus/*.jsonl -o tokens -t tokenizer",
        "shards pack": "shards pack tokens -o shards --seq-len 512",
        "shards merge": "shards merge part-0 part-1 -o shards",
        "shards split": "shards split shards -o parts --share 0.99 --share 0.01",
        "shards verify": "shards verify shards -t tokenizer",
        "shards info": "shards info shards",
        "shards head": "shards head shards -t tokenizer",
    },
    "Train": {
        "doctor": "doctor",
        "plan": "plan small --gpu h100 --gpus 4",
        "pretrain": "pretrain small data.manifest=shards/manifest.json data.tokenizer=tokenizer",
        "branch": "branch runs/small --at 50000 --decay 10%",
        "sweep": "sweep small steps=2000 schedule.warmup_steps=200 --rates 0.5,1,2 -o rates",
        "quickstart": "quickstart -o quickstart",
        "study": "study -o study",
    },
    "On a SLURM cluster": {
        "submit": "submit small data.manifest=shards/manifest.json --site h100 --nodes 2",
        "status": "status --watch",
        "logs": "logs runs/small --follow",
        "stop": "stop runs/small",
        "follow": "follow runs/small",
        "preflight": "preflight --gpus 4",
        "site list": "site list",
        "site check": "site check h100",
        "site new": "site new ours.yaml",
    },
    "Measure and look": {
        "finetune": "finetune runs/small --task rotten_tomatoes --data-dir tasks",
        "evaluate": "evaluate runs/small --held-out held-out/manifest.json",
        "probe": "probe runs/small --task trec --data-dir tasks",
        "pairs": "pairs runs/small held-out.jsonl",
        "show": 'show runs/small "The film was [MASK]."',
        "heads": 'heads runs/small "The film was good." --html heads.html',
        "watch": "watch runs/small",
        "report": "report runs/small runs/base -o report.html",
        "tasks list": "tasks list",
        "tasks fetch": "tasks fetch rotten_tomatoes -o tasks",
        "track sync": "track sync runs/small",
    },
    "Models in and out": {
        "export": "export runs/small -o model",
        "import": "import convbert_small/model.ckpt -o released --vocab vocab.txt",
    },
}


def arrange(app: typer.Typer) -> None:
    """Put commands into groups, each with an example below its help and our words for faults."""
    panels = {path.split()[0]: panel for panel, paths in GROUPS.items() for path in paths}
    examples = {path: text for paths in GROUPS.values() for path, text in paths.items()}
    for group in app.registered_groups:
        _arrange(group, panels, examples)
    order = list(panels)
    app.registered_groups.sort(key=lambda g: order.index(_first(g)))


def _first(group: typer.models.TyperInfo) -> str:
    """Return the command that decides where the help shows a group."""
    if isinstance(group.name, str):
        return group.name
    assert group.typer_instance is not None
    return _name(group.typer_instance.registered_commands[0])


def _name(command: typer.models.CommandInfo) -> str:
    assert command.callback is not None
    return command.name or command.callback.__name__


def _arrange(
    group: typer.models.TyperInfo, panels: dict[str, str], examples: dict[str, str]
) -> None:
    assert group.typer_instance is not None
    prefix = f"{group.name} " if isinstance(group.name, str) else ""
    if prefix:
        group.rich_help_panel = panels[prefix.strip()]
    for command in group.typer_instance.registered_commands:
        if command.cls is None or not issubclass(command.cls, Command):
            command.cls = Command
        name = _name(command)
        if example := examples.get(prefix + name):
            command.epilog = f"Example: convbert {example}"
        if not prefix:
            command.rich_help_panel = panels.get(name)
