"""The errors of nibt. Each message says what was expected, what was received and what to do.

* NibtError
  - UnknownName     a method, metric, target, model family or data set does not exist
  - BadOption       an option has an invalid value
  - BadInput        an image, a caption or another input cannot be read
    - MissingSide     a comparison has no image or text side, and an explanation no first or second one
  - CannotLoad      a model is missing or cannot be loaded
  - Unsupported     the model or the installation lacks what the request needs
  - WrongBaseline   a file of mean states belongs to another model or another grid
  - CannotWrite     an output cannot be written; no partial file is left
    - WouldOverwrite  an output would replace an input, or a file that nibt did not write
  - OtherRequest    a folder or a file has the results of another request
  - ServerFailed    a server cannot be reached, refuses access, or would be asked more than its limit
    - RequestRefused  a server refuses a request, or answers something else than what was asked
"""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any

TOO_DEEP = "it is nested too deeply"
_LONGEST = 1200  # characters of a message
_LONGEST_LINE = 300  # characters of a message of a library


class NibtError(Exception):
    """Base class of all errors of nibt. A message has one line (``OtherRequest``: one per difference).

    A long value in a message is shortened.
    """

    def __init__(self, message: str = "") -> None:
        message = message if isinstance(self, OtherRequest) else message.replace("\n", " ")
        short = len(message) <= _LONGEST
        super().__init__(message if short else f"{message[: _LONGEST // 2]} ... {message[-_LONGEST // 3 :]}")


class UnknownName(NibtError, LookupError):
    """A method, metric, target, model family or data set does not exist."""

    def __init__(self, group: str, name: object, names: Iterable[str], hint: str = "") -> None:
        names = sorted(set(names))
        self._arguments = group, name, names, hint
        near = get_close_matches(str(name), names, n=1)
        hint = (f" Did you mean {near[0]!r}?" if near else "") + (f" {hint}" if hint else "")
        listed = f" Known {group}: {', '.join(names)}." if names else f" No {group} are available."
        super().__init__(f"unknown {group.removesuffix('s')} {name!r}.{hint}{listed}")

    def __reduce__(self) -> tuple[type, tuple[str, Any, list[str], str]]:
        """Return the class and the arguments, so that the error can be sent to another process."""
        return type(self), self._arguments


def check_names(group: str, names: Iterable[object], known: Collection[str]) -> None:
    """Raise ``UnknownName`` for the first of some names that is not known."""
    for name in names:
        if name not in known:
            raise UnknownName(group, name, known)


class BadOption(NibtError, ValueError):
    """An option has an invalid value."""


class BadInput(NibtError, ValueError):
    """An image, a caption or another input cannot be read."""


class MissingSide(BadInput, AttributeError):
    """A result lacks a side: an explanation of an image with a caption has others than a comparison."""


class CannotLoad(NibtError, OSError):
    """A model is missing or cannot be loaded."""


class Unsupported(NibtError, NotImplementedError):
    """The model or the installation lacks what the request needs."""


NEEDS_HTTPX = "a model behind a server needs the package httpx"


def missing_part(error: ModuleNotFoundError) -> Unsupported | None:
    """Return the error that says which part of nibt, or package for servers, an installation lacks; None for others."""
    module = error.name or ""
    if module == "httpx":
        return Unsupported(f"{NEEDS_HTTPX}: {install('server')}")
    if not module.startswith("nibt."):
        return None
    return Unsupported(f"this installation of nibt lacks {module}, which this needs: install the whole package again")


class WrongBaseline(NibtError, ValueError):
    """A file of mean states belongs to another model or another grid."""


class CannotWrite(NibtError, OSError):
    """An output cannot be written; no partial file is left."""


class WouldOverwrite(CannotWrite):
    """An output would replace an input, or a file that nibt did not write."""


class ServerFailed(NibtError, OSError):
    """A server cannot be reached, refuses access, or would be asked more than its limit."""


class RequestRefused(ServerFailed):
    """A server refuses a request, or answers something else than what was asked; another request may succeed."""


class OtherRequest(NibtError, ValueError):
    """A folder or a file has the results of another request; its message has a line per difference."""


def reason(error: Exception) -> str:
    """Return the message of an error in one short line, of an error of the system without its number and its file."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return text[:200] or type(error).__name__


def first_line(error: BaseException) -> str:
    """Return the first line of a message, and the second if the first ends with a colon."""
    if isinstance(error, KeyError):  # whose message is only the key
        return f"unknown key {error}"

    lines = (str(error).strip() or type(error).__name__).split("\n")
    count = 2 if lines[0].rstrip(". ").endswith(":") else 1
    return " ".join(text.strip() for text in lines[:count]).rstrip(".")[:_LONGEST_LINE]


def import_optional(module: str, needs: str, extra: str) -> Any:
    """Import a module of an optional dependency; ``needs`` begins the message, ``extra`` installs the package."""
    try:
        return import_module(module)
    except ImportError as error:
        raise Unsupported(f"{needs}: {install(extra)}") from error


def install(extra: str) -> str:
    """Return how to install an extra: from a clone, since nibt is on no package index."""
    return f"in a clone of nibt, pip install '.[{extra}]'"
