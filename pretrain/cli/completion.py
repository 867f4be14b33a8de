"""What the shell offers behind a half-written word; nothing heavy is loaded for it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def _starting(found: Iterable[str], incomplete: str) -> list[str]:
    return sorted({name for name in found if name.startswith(incomplete)})


def _below(incomplete: str, pattern: str) -> Iterator[Path]:
    """Yield what matches ``pattern`` in the folder that is being written, and its folders."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    try:
        yield from folder.glob(pattern)
        yield from (path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file()


def _runs(incomplete: str) -> Iterator[str]:
    """Yield run directories, and the folders in which there may be some with a slash behind."""
    for path in _below(incomplete, "*"):
        if path.is_dir() and not path.name.startswith("."):
            yield str(path) if _is_run(path) else f"{path}/"
    yield from (str(path.parent) for path in Path("runs").glob("*/config.yaml"))


def runs(incomplete: str) -> list[str]:
    """Complete a run directory."""
    return _starting(_runs(incomplete), incomplete)


def recipes(incomplete: str) -> list[str]:
    """Complete a shipped recipe, a YAML file or a run directory."""
    from convbert.pretrain.settings.recipes import recipe_names

    files = (str(path) for path in _below(incomplete, "*.y*ml") if path.is_file())
    return _starting([*recipe_names(), *files, *_runs(incomplete)], incomplete)


def settings(incomplete: str) -> list[str]:
    """Complete the key of a run's setting; of one that is known, show the default, too.

    Where two words are offered, shells put no blank behind what they share, the ``=``.
    """
    from convbert.models.faults import setting_paths
    from convbert.pretrain.settings.run import RunConfig

    paths = list(setting_paths(RunConfig))
    inner = {path.rpartition(".")[0] for path in paths}
    found = _starting((f"{path}=" for path in paths if path not in inner), incomplete)
    if len(found) != 1:
        return found
    return [*found, f"{found[0]}{_default(found[0].removesuffix('='))}"]


def _default(path: str) -> str:
    """Return the default of a setting as it is written, ``...`` where it is nothing or long."""
    import json

    from convbert.pretrain.settings.run import RunConfig

    value: Any = RunConfig().model_dump(mode="json")
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    simple = isinstance(value, str | bool | int | float)
    return value if isinstance(value, str) else json.dumps(value) if simple else "..."


def tasks(incomplete: str) -> list[str]:
    """Complete a task of the package, or a YAML file."""
    from convbert.pretrain.finetune.task import packaged_tasks

    files = (str(path) for path in _below(incomplete, "*.y*ml") if path.is_file())
    return _starting([*packaged_tasks(), *files], incomplete)


def corpora(incomplete: str) -> list[str]:
    """Complete a corpus that can be fetched."""
    from convbert.data_pipeline.corpora import CORPORA

    return _starting([*CORPORA, "all"], incomplete)


def sites(incomplete: str) -> list[str]:
    """Complete a site profile of the package, or a YAML file."""
    from convbert.cluster.site import site_names

    files = (str(path) for path in _below(incomplete, "*.y*ml") if path.is_file())
    return _starting([*site_names(), *files], incomplete)
