"""The host's paths that a container must see: what a configuration names is bound, or refused.

What lies outside of them is not there inside an image, and what is written there is lost.
"""

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from convbert.cluster.site import Site
from convbert.cluster.words import expanded, has_variables
from convbert.data_pipeline.corpus_build.build_settings import BuildConfig
from convbert.data_pipeline.shards.remote import is_url
from convbert.models.errors import AbsentError, UserError
from convbert.pretrain.run.directory import RunDirectory
from convbert.pretrain.run.tracking_uri import SQLITE, resolve_uri
from convbert.pretrain.settings.run import RunConfig

_CACHES = (
    *("HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TORCH_HOME", "TORCH_EXTENSIONS_DIR"),
    *("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME", "TMPDIR"),
)
"""Variables that name a directory to write to."""
_IMAGES = (".sif", ".sqsh", ".squashfs", ".img")
"""Ends of the names of images that are files."""


def image_fault(site: Site) -> str | None:
    """Return what is wrong with a site's image that is a file: a relative path, or none there.

    A name in a registry is no file, and a path with a variable is one of the node's own.
    """
    image = site.container.image if site.container else ""
    is_file = image.startswith(("/", "./", "../", "~")) or image.endswith(_IMAGES)
    if not is_file or "://" in image or has_variables(image):
        return None
    place = Path(image.replace("$$", "$"))
    if not place.is_absolute():
        return (
            f"container.image={image}: jobs start in another directory; give the whole path, "
            f"such as {place.expanduser().absolute()}"
        )
    if os.path.exists(place):  # False also where nobody may look
        return None
    return (
        f"container.image={image}: does not exist here; build it or correct the path, or begin the "
        "path with a variable, such as $IMAGES/convbert.sif, where only the nodes have it"
    )


def require_image(site: Site) -> None:
    """Raise ``UserError`` for an image that jobs would not find."""
    fault = image_fault(site)
    if fault is not None:
        raise UserError(fault)


def shared_paths(run_dirs: Sequence[Path], site: Site) -> list[Path]:
    """Return what the configurations of runs name on the shared file system, the runs first.

    Raises ``UserError`` for a path that is not there, or that no container can bind.
    """
    found = [path.resolve() for path in run_dirs]
    for config, run_dir in zip(configurations(run_dirs), run_dirs, strict=False):
        found += map(_existing, _named(config, run_dir, site))
    return [_bindable(path) for path in found]


def configurations(run_dirs: Sequence[Path]) -> list[RunConfig]:
    """Return the configurations of run directories that have one."""
    runs = map(RunDirectory, run_dirs)
    return [run.open() for run in runs if run.config_file.is_file()]


def corpus_paths(config: Path, output: Path, settings: BuildConfig) -> list[Path]:
    """Return what a corpus build reads and writes, and the directory it starts from."""
    found = [Path.cwd(), config.resolve().parent]
    files = [place for source in settings.all_sources() for place in source.inputs]
    files += settings.decontamination.files
    found += [_outside_glob(place) for place in files if not is_url(place)]
    if settings.tokenizer.path:
        found.append(settings.tokenizer.path.resolve())
    return [_bindable(path) for path in (output.resolve(), *map(_existing, found))]


def _named(config: RunConfig, run_dir: Path, site: Site) -> Iterator[Path]:
    sources = [*config.data.blend, *(s for p in config.phases for s in p.data(config.data).blend)]
    places = [source.manifest for source in sources]
    places += [config.evaluation.held_out] if config.evaluation.held_out else []
    for place in places:
        if not is_url(place):
            path = Path(place)
            yield path if path.is_dir() else path.parent
    for place in config.evaluation.pairs.inputs if config.evaluation.pairs else ():
        if not is_url(place):
            yield _outside_glob(place)
    yield config.data.tokenizer
    if config.model.init_from:
        yield config.model.init_from
    if Path(config.deepspeed).suffix == ".json":
        yield Path(config.deepspeed).resolve()
    upload = config.checkpoint.upload
    if upload and not is_url(upload):
        yield Path(upload).resolve()
    uri = config.tracking.uri or site.environment.get("MLFLOW_TRACKING_URI")
    uri = resolve_uri(run_dir, uri)
    if uri.startswith(SQLITE):
        yield Path(uri.removeprefix(SQLITE)).resolve().parent


def _outside_glob(place: str) -> Path:
    """Return the directory in which a file or pattern looks."""
    path = Path(place).absolute()
    while any(sign in str(path) for sign in "*?[") or not path.is_dir():
        path = path.parent
    return path


def _existing(path: Path) -> Path:
    if not path.exists():
        raise AbsentError(f"{path}: does not exist here, so no container could see it; create it")
    return path


def _bindable(path: Path) -> Path:
    if set(",:") & set(str(path)):
        raise UserError(f"{path}: a container cannot bind a path with a comma or colon; rename it")
    return path


def local_places(site: Site, configs: Iterable[RunConfig] = ()) -> dict[str, str]:
    """Return directories of a node's own that jobs write to, by the key that names them."""
    found = {"scratch": site.scratch} if site.scratch else {}
    found |= {f"environment.{k}": v for k, v in site.environment.items() if k in _CACHES}
    for config in configs:
        found |= {
            f"data.{key}": str(value)
            for key in ("cache", "stage")
            if (value := getattr(config.data, key)) is not None
        }
    return found


def binds(site: Site, shared: Sequence[Path], local: dict[str, str]) -> list[str]:
    """Return the mounts of the site's container as words of the shell, the profile's first.

    What lies below a mount is not bound again. Apptainer binds ``local`` directories once a node
    has made them (see ``_node.j2``), but pyxis needs them before: raises ``UserError`` where the
    profile mounts nothing above them.
    """
    assert site.container is not None
    covering = [Path(mount) for mount in site.container.mounts if ":" not in mount]
    words = [expanded(mount, "container.mounts") for mount in site.container.mounts]
    for path in shared:
        if not _covered(path, covering):
            words.append(shlex.quote(str(path)))
            covering.append(path)
    for key, value in local.items() if site.pyxis else ():
        if _covered(Path(value), covering):
            continue
        if key != "scratch":  # which every node has
            raise UserError(
                f"{key}={value}: would be lost with the container; add a directory above it, which "
                "every node has, to container.mounts"
            )
        words.append(expanded(value, key))
    return words


def _covered(path: Path, covering: Sequence[Path]) -> bool:
    return any(path == above or above in path.parents for above in covering)
