"""The type checker of the tests, which check the types and shapes of all arguments and results of nibt.

It is beartype. jaxtyping (``--jaxtyping-packages`` in pyproject.toml) calls it for stand-ins that have the signature of
a function and do nothing else. Python defines a function inside a function anew in each call of the outer one.
Generating its checks takes longer than most calls, so they are generated once.
"""

from collections.abc import Callable, Hashable
from typing import Any

from beartype import beartype

_CHECKED: dict[Hashable, Callable[..., Any]] = {}


def checked(stand_in: Any) -> Any:
    """Return a stand-in that checks its arguments and its result."""
    if "<locals>" not in getattr(stand_in, "__qualname__", ""):
        return beartype(stand_in)
    code = stand_in.__code__
    key = (stand_in.__module__, stand_in.__qualname__, code.co_varnames, *stand_in.__annotations__.items())
    if key not in _CHECKED:
        _CHECKED[key] = beartype(stand_in)
    return _CHECKED[key]
