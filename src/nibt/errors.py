"""The errors of this library. Each message says what was expected, what came and what to do.

* NibtError
  - UnknownName     no method, metric, target, model family or data set of that name
  - BadOption       an option has a value that it cannot take
  - BadInput        an image or a caption cannot be read
  - CannotLoad      a model is missing, or is not what it should be
  - Unsupported     the model lacks what the request needs
  - WrongBaseline   a file of mean states belongs to another model or another grid
  - CannotWrite     an output cannot be written; nothing half-written is left
    - WouldOverwrite  an output would replace an input, or a file that nibt did not write
  - OtherRequest    a folder or a file holds the results of another request
"""

from collections.abc import Iterable
from difflib import get_close_matches


class NibtError(Exception):
    """Base of all errors below; catch this to catch them all."""


class UnknownName(NibtError, LookupError):
    """No part of that kind goes by that name."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        self._arguments = kind, name, known
        near = get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = f" Known {kind}: {', '.join(known)}." if known else f" There are no {kind} here."
        super().__init__(f"unknown {kind.removesuffix('s')} {name!r}.{hint}{listed}")

    def __reduce__(self) -> tuple[type, tuple[str, str, list[str]]]:
        """Keep the arguments when the error is sent to another process."""
        return type(self), self._arguments


class BadOption(NibtError, ValueError):
    """An option has a value that it cannot take."""


class BadInput(NibtError, ValueError):
    """An image or a caption cannot be read."""


class CannotLoad(NibtError, OSError):
    """A model is missing, or is not what it should be."""


class Unsupported(NibtError, NotImplementedError):
    """The model lacks what the request needs."""


class WrongBaseline(NibtError, ValueError):
    """A file of mean states belongs to another model or another grid."""


class CannotWrite(NibtError, OSError):
    """An output cannot be written; nothing half-written is left."""


class WouldOverwrite(CannotWrite):
    """An output would replace an input, or a file that nibt did not write."""


class OtherRequest(NibtError, ValueError):
    """A folder or a file holds the results of another request than this one."""
