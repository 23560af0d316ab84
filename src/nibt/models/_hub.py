"""Models of a hub as folders: from the cache if all is there, which needs no network, else downloaded.

The folder is that of the cache of ``huggingface_hub``, which other libraries share. Weights come last: what can be
missing or forbidden is checked before.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from nibt.errors import CannotLoad
from nibt.io import load_json, read_text
from nibt.models._failures import WrongFiles
from nibt.models._names import HubName
from nibt.models._request import LoadRequest
from nibt.models._saved import problem_of_files, problem_of_variant, with_variant
from nibt.models._sentence_modules import DENSE_WEIGHTS, dense_folders
from nibt.progress import Progress, listener, no_progress
from nibt.records import JsonObject

_TIMEOUT = 10.0  # seconds until the hub must answer
_MODELS = (".model", ".tiktoken", ".spm")  # of SentencePiece and others
_TEXTS = (".json", ".txt", ".jinja", *_MODELS)
_CONFIGS = ("config.json", "open_clip_config.json", "adapter_config.json")
_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
_ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
_OPEN_CLIP = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    *_TRANSFORMERS,
)
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "bpe.codes")
_READ = (
    *("nibt.json", "mean_states.safetensors", *_CONFIGS, *_PROCESSORS, *_VOCABULARIES, "vocab.json", "merges.txt"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "dict.txt", "emoji.json"),
    *("chat_template.jinja", "chat_template.json", "generation_config.json", "video_preprocessor_config.json"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
)
"""The names of the files that libraries read in a folder of a model, besides ``_MODELS`` and the weights."""
Parts = Callable[["Listing"], list[str]]
"""Returns the files that are needed of a listing, the weights last."""


@dataclass(frozen=True)
class Wants:
    """Which library loads a repository; without a wish, Transformers has priority over OpenCLIP."""

    check: Callable[[JsonObject], object]  # raises before weights are downloaded if no family takes the configuration
    open_clip: bool = False

    def prefers_open_clip(self, config: JsonObject, has_open_clip: bool) -> bool:
        """Return whether OpenCLIP must load a repository with this ``config.json``."""
        return "model_cfg" in config or (has_open_clip and (self.open_clip or "model_type" not in config))


@dataclass(frozen=True)
class Listing:
    """The files of a repository, or those of it that are in the cache."""

    name: HubName
    files: frozenset[str]
    read: Callable[[str], str]

    @property
    def top(self) -> str:
        """The folder of the model, with a slash unless it is the repository."""
        return f"{self.name.folder}/" if self.name.folder else ""

    def has(self, file: str) -> bool:
        """Return whether the folder of the model has a file."""
        return self.top + file in self.files

    def json(self, file: str) -> Any:
        """Return the content of a JSON file of the model; empty if there is none."""
        if not self.has(file):
            return {}
        try:
            return load_json(self.read(self.top + file))
        except ValueError:
            return {}  # the loading of the folder reports it

    def inside(self, folder: str) -> "Listing":
        """Return the listing for a folder of the model."""
        return replace(self, name=replace(self.name, folder=(self.top + folder).strip("/")))

    def below(self, *folders: str) -> list[str]:
        """Return the files of the model, and of some folders in it, without those deeper down."""
        places = {(self.top + folder).strip("/") or "." for folder in ("", *folders)}
        return sorted(file for file in self.files if str(PurePosixPath(file).parent) in places)


def model_folder(name: HubName, request: LoadRequest, wants: "Wants") -> tuple[Path, str]:
    """Return the folder of a model, and the commit of its repository."""
    return _folder(name, partial(_model_parts, request=request, wants=wants))


def files_read(folder: Path) -> list[str]:
    """Return the files of a model's folder that loading reads, by their names in it: nothing else that lies there."""
    files = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    listing = Listing(HubName(str(folder)), files, lambda file: read_text(folder / file))
    needed = _model_parts(listing, LoadRequest(processor=True, tokenizer=True), Wants(check=lambda config: None))
    small = {file for file in needed if file.endswith(_TEXTS) and not file.endswith(_MODELS)}
    named = {file for file in files if PurePosixPath(file).name in _READ or file.endswith(".index.json")}
    return sorted((set(needed) - small) | (small & named) | (files & {"mean_states.safetensors"}))


def tokenizer_folder(repository: str) -> Path:
    """Return the folder of a tokenizer on the hub."""
    return _folder(HubName(repository), _tokenizer_parts)[0]


def processor_folder(name: HubName) -> Path:
    """Return the folder of the processors of a model on the hub, without its weights."""
    return _folder(name, lambda listing: [file for file in listing.below() if file.endswith(_TEXTS)])[0]


def text_encoder_folder(name: HubName) -> tuple[Path, str]:
    """Return the folder of a text encoder of sentence-transformers, and the commit of its repository."""
    return _folder(name, _text_encoder_parts)


def config_folder(repository: str) -> Path:
    """Return the folder of a configuration on the hub."""
    return _folder(HubName(repository), lambda listing: [listing.top + "config.json"])[0]


def weights_file(repository: str, names: Iterable[str]) -> tuple[Path, str]:
    """Return the first of these files that a repository has, and its commit."""
    candidates = tuple(names)

    def parts(listing: Listing) -> list[str]:
        file = next(filter(listing.has, candidates), None)
        if file is None:
            raise CannotLoad(f"{repository!r} on the hub has none of the weights {', '.join(candidates)}")
        return [file]

    folder, commit = _folder(HubName(repository), parts)
    return folder / next(name for name in candidates if (folder / name).exists()), commit


def download_size(name: HubName, request: LoadRequest, wants: "Wants") -> int:
    """Return how many bytes of a model would be downloaded; 0 if all of it is in the cache. Only texts are read."""
    from huggingface_hub import constants, hf_hub_download

    parts = partial(_model_parts, request=request, wants=wants)
    if _cached(name, parts) is not None:
        return 0

    sizes, commit = _sizes(name)

    def read(file: str) -> str:
        path = hf_hub_download(name.repository, file, revision=commit, endpoint=constants.ENDPOINT)
        return read_text(Path(path))

    needed = parts(Listing(name, frozenset(sizes), read))
    return sum(sizes[file] for file in needed)


def _folder(name: HubName, parts: Parts) -> tuple[Path, str]:
    return _cached(name, parts) or _download(name, parts)


def _cached(name: HubName, parts: Parts) -> tuple[Path, str] | None:
    """Return the folder of the parts of a repository in the cache, and its commit; None if a part is not there."""
    from huggingface_hub import snapshot_download

    with suppress(CannotLoad, OSError):  # if the cache lacks the last known commit of the revision, or a part of it
        options = {"revision": name.revision, "local_files_only": True, "allow_patterns": []}
        kept = Path(snapshot_download(name.repository, **options))
        paths = kept.rglob("*")  # a link to a file that was deleted is none
        files = frozenset(path.relative_to(kept).as_posix() for path in paths if path.is_file())
        listing = Listing(name, files, lambda file: read_text(kept / file))
        if listing.files.issuperset(parts(listing)):
            return kept / name.folder, kept.name
    return None


def _sizes(name: HubName) -> tuple[dict[str, int], str]:
    """Return the size of each file of a repository in bytes, and its commit."""
    from huggingface_hub import HfApi, constants

    info = HfApi(endpoint=constants.ENDPOINT).model_info(
        name.repository, revision=name.revision, timeout=_TIMEOUT, files_metadata=True
    )
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return sizes, info.sha or name.revision or constants.DEFAULT_REVISION


def _download(name: HubName, parts: Parts) -> tuple[Path, str]:
    """Download the parts of a repository in order; the weights must be accessible before anything is read.

    It gets each file in this thread, since ``snapshot_download`` gets them in others, and waits for these to end when
    it is interrupted.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    where = constants.ENDPOINT
    sizes, commit = _sizes(name)
    needed: list[str] = []
    done: dict[str, int] = {}

    def get(file: str, revision: str = commit) -> Path:
        total = sum(sizes.get(file, 0) for file in needed or [file])
        path = hf_hub_download(
            name.repository, file, revision=revision, endpoint=where, tqdm_class=_bar(file, done, total)
        )
        return Path(path)

    listing = Listing(name, frozenset(sizes), lambda file: read_text(get(file)))
    if name.folder and not listing.below():
        raise CannotLoad(f"{name.repository!r} has no folder {name.folder!r}")

    needed += parts(listing)
    get_hf_file_metadata(hf_hub_url(name.repository, needed[-1], revision=commit, endpoint=where), timeout=_TIMEOUT)
    # the first names the branch, so that the cache knows its commit
    paths = [get(needed[0], name.revision or constants.DEFAULT_REVISION), *map(get, needed[1:])]
    folder = paths[-1].parents[len(PurePosixPath(needed[-1]).parts) - 1]
    return folder / name.folder, folder.name


def _bar(file: str, done: dict[str, int], total: int) -> Any:
    """Return the class of the bars of a file, which report to the listener; None for those of the hub's library."""
    from huggingface_hub.utils import tqdm

    report = listener()
    if report is no_progress:
        return None

    class Bar(tqdm):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **{**options, "disable": True})
            self.update(0)  # the first megabytes take a while

        def update(self, n: int | float | None = 1) -> None:
            self.n += int(n or 0)
            done[file] = max(self.n, done.get(file, 0))  # a file may have a second bar, of its transfer
            count = sum(done.values())
            amounts = " of ".join(tqdm.format_sizeof(size, "B") for size in (count, total))
            report(Progress(count, total or None, f"downloading {file}, {amounts}"))

    return Bar


def _model_parts(listing: Listing, request: LoadRequest, wants: Wants) -> list[str]:
    """Return the files of a model, the weights last."""
    modules, after = _modules(listing)
    small = [file for file in listing.below(*modules) if file.endswith(_TEXTS)] + after
    if listing.has("adapter_config.json"):
        return small + _weights(listing, _ADAPTERS)
    if modules and not listing.has("config.json"):  # of sentence-transformers
        return small + _weights(listing.inside(modules[0]), _TRANSFORMERS)

    config = listing.json("config.json")
    if wants.prefers_open_clip(config, listing.has("open_clip_config.json")):
        return small + _weights(listing, _OPEN_CLIP)

    files = listing.below()
    problem = problem_of_files(files, config) or problem_of_variant(files, request.variant)
    if problem is not None:
        raise WrongFiles(f"cannot load the model {str(listing.name)!r}: {problem}")
    if not listing.has("config.json"):
        raise WrongFiles(f"{str(listing.name)!r} on the hub is not a model: it has none of {', '.join(_CONFIGS)}")

    family = wants.check(config) if config else None  # a broken file in the cache is reported when it is loaded
    if family != "timm_classifier":  # whose configuration says how images are prepared
        _check_processor(listing, request, reads_text=family != "classifier")
    return small + _weights(listing, _TRANSFORMERS, request.variant)


def _modules(listing: Listing) -> tuple[list[str], list[str]]:
    """Return the folders of the modules of sentence-transformers, and the weights of those after the encoder."""
    modules: Any = listing.json("modules.json")
    if not modules:
        return [], []
    dense = [folder for folder in dense_folders(str(listing.name), modules, listing.json) if folder is not None]
    weights = [file for folder in dense for file in _weights(listing.inside(folder), DENSE_WEIGHTS)]
    return [str(module.get("path", "")) for module in modules], weights


def _weights(listing: Listing, names: Iterable[str], variant: str | None = None) -> list[str]:
    """Return the files of the weights: the first that exists, or its parts."""
    for name in names:
        file = with_variant(name, variant)
        if listing.has(file):
            return [listing.top + file]
        index = with_variant(f"{name}.index.json", variant)
        shards = set(listing.json(index).get("weight_map", {}).values())
        if shards:
            return sorted(listing.top + shard for shard in shards)
    raise CannotLoad(f"{str(listing.name)!r} on the hub has no weights: it has none of {', '.join(names)}")


def _check_processor(listing: Listing, request: LoadRequest, reads_text: bool) -> None:
    """Check that what prepares inputs exists, before weights are downloaded for nothing."""
    lacks = []
    if request.processor is None and not any(map(listing.has, _PROCESSORS)):
        lacks.append(f"image processor ({_PROCESSORS[0]})")
    if reads_text and request.text_tokenizer is None and not _has_vocabulary(listing):
        lacks.append(f"tokenizer ({_VOCABULARIES[0]})")
    if lacks:
        raise CannotLoad(
            f"{str(listing.name)!r} on the hub has no {' and no '.join(lacks)}: name the model from which it was "
            'made, as in load_model(name, processor="org/name") or --load processor=org/name'
        )


def _has_vocabulary(listing: Listing) -> bool:
    if listing.has("vocab.json") and listing.has("merges.txt"):
        return True
    return any(PurePosixPath(file).name in _VOCABULARIES or file.endswith(_MODELS) for file in listing.below())


def _text_encoder_parts(listing: Listing) -> list[str]:
    """Return the files of a text encoder, the weights last."""
    modules, after = _modules(listing)
    if not modules:
        raise CannotLoad(
            f"{str(listing.name)!r} on the hub is no model of sentence-transformers: it has no modules.json"
        )
    small = [file for file in listing.below(*modules) if file.endswith(_TEXTS)]
    return small + after + _weights(listing, _TRANSFORMERS)


def _tokenizer_parts(listing: Listing) -> list[str]:
    if not _has_vocabulary(listing):
        raise CannotLoad(f"{str(listing.name)!r} on the hub has no tokenizer")
    return [file for file in listing.below() if file.endswith(_TEXTS)]
