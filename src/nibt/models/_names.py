"""What people write as the name of a model on the hub or of OpenCLIP, and the addresses of servers.

A name that could mean several models is an error that lists what to write; it is never guessed.
"""

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nibt.errors import CannotLoad

OPEN_CLIP = "open_clip:"
_SCHEMES = ("hf-hub:", "hf_hub:", "hf://")
_PART = r"[A-Za-z0-9][\w.\-]*"
_NAME = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>[\w.\-/]+))?(?::(?P<folder>[\w.\-]+(?:/[\w.\-]+)*))?"
)
_PLACES = ("tree", "blob", "resolve", "raw")  # of a page, before the revision
_OTHERS = ("datasets", "spaces", "collections", "papers", "docs", "blog", "posts", "buckets")


@dataclass(frozen=True)
class HubName:
    """A model on the hub: its owner and name, a branch, tag or commit, and its folder in the repository.

    >>> str(HubName("org/name", "v1.0", "sub"))
    'org/name@v1.0:sub'
    """

    repository: str
    revision: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return self.repository + revision + (f":{self.folder}" if self.folder else "")


def hub_name(text: str) -> HubName | None:
    """Return the model on the hub that a text names, or None if it names none.

    >>> str(hub_name("hf-hub:org/name"))
    'org/name'
    >>> hub_name("no model")
    """
    name = text.strip()
    scheme = next((scheme for scheme in _SCHEMES if name.startswith(scheme)), "")
    name = name.removeprefix(scheme).rstrip("/")
    if not scheme and (page := _page(name)) is not None:
        return page

    match = _NAME.fullmatch(name)
    if match is None or ".." in re.split("[/:@]", name):
        if scheme:
            raise CannotLoad(
                f"{text!r} names no model on the hub: write org/name, org/name@revision or org/name:folder"
            )
        return None
    return HubName(match["repository"], match["revision"], match["folder"] or "")


def open_clip_name(text: str) -> str | None:
    """Return ``ARCHITECTURE/TAG`` if a text names weights of OpenCLIP, with or without the prefix; None otherwise."""
    if text.startswith(OPEN_CLIP):
        return text.removeprefix(OPEN_CLIP)

    first, slash, tag = text.strip().partition("/")
    architecture = text.strip().replace("@336px", "-336").replace("/", "-")
    spec = find_spec("open_clip")  # its files, since to import it takes seconds
    folders = (spec and spec.submodule_search_locations) or []
    architectures = {path.stem for folder in folders for path in Path(folder, "model_configs").glob("*.json")}
    if architecture in architectures and not (first in architectures and slash):
        import open_clip

        tags = open_clip.list_pretrained_tags_by_model(architecture)
        openai = f"{OPEN_CLIP}{architecture}/openai for OpenAI's, or " if "openai" in tags else ""
        raise CannotLoad(
            f"{text!r} is an architecture, of which there are several weights: write {openai}"
            f"{OPEN_CLIP}{architecture}/TAG (tags: {', '.join(tags) or 'none'})"
        )
    return f"{first}/{tag}" if first in architectures and tag else None


def hint(text: str) -> str:
    """Return what to write instead of a text that names no model, or nothing.

    >>> hint("org/name/sub")
    " For the folder of a repository, write 'org/name:sub'."
    """
    parts = text.strip().split("/")
    if len(parts) > 2 and all(re.fullmatch(_PART, segment) for segment in parts):
        return f" For the folder of a repository, write '{parts[0]}/{parts[1]}:{'/'.join(parts[2:])}'."
    return ""


def is_address(source: object) -> bool:
    """Return whether a model is named by the address of a server, which is no page of the hub.

    >>> is_address("http://localhost:8000/v1"), is_address("org/name")
    (True, False)
    """
    if not isinstance(source, str) or not re.match("https?://", source.strip(), re.IGNORECASE):
        return False
    return urlsplit(source.strip()).netloc.lower() not in _hub_hosts()


def _hub_hosts() -> set[str]:
    """Return the hosts of the hub, with the ports that are not the default ones."""
    from huggingface_hub import constants

    # older versions have no list
    return {*getattr(constants, "HF_URL_HOSTS", ()), urlsplit(constants.ENDPOINT).netloc.lower()} - {""}


def _page(text: str) -> HubName | None:
    """Return the model of an address of the hub; None if the text is no address."""
    hosts = _hub_hosts()
    bare = text.partition("/")[0].lower() in hosts
    if "://" not in text and not bare:
        return None

    address = urlsplit(text if "://" in text else f"//{text}")
    if (address.netloc.lower() not in hosts) or address.scheme not in ("", "http", "https"):
        raise CannotLoad(f"{text!r} is not a page of the hub: write org/name for a model on it")

    parts = [unquote(segment) for segment in address.path.split("/") if segment]
    if parts[:1] == ["models"] and len(parts) > 2:
        del parts[0]
    if len(parts) < 2 or parts[0] in _OTHERS:
        raise CannotLoad(f"{text!r} is not the page of a model: write org/name")

    repository = "/".join(parts[:2])
    place = parts[2:3]
    rest = parts[3:]
    if not place or place[0] not in _PLACES or not rest:
        return hub_name(repository)

    count = 3 if rest[0] == "refs" else 1  # the revision refs/pr/1
    revision = "/".join(rest[:count])
    path = rest[count:]
    folder = path if place == ["tree"] else path[:-1]
    return hub_name(str(HubName(repository, None if revision == "main" else revision, "/".join(folder))))
