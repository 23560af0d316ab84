"""Comparison and hashing of dataclasses with arrays by value."""

from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor


class ByValue:
    """Base class of frozen dataclasses (with ``eq=False``) whose fields may be arrays, tensors or mappings.

    Two objects of the same class are equal if all compared fields are equal. NaN equals NaN, and arrays of different
    dtypes differ.
    """

    def __eq__(self, value: object) -> bool:
        return type(self) is type(value) and value_key(self) == value_key(value)

    def __hash__(self) -> int:
        return hash(value_key(self))


def value_key(value: Any) -> Hashable:
    """Return a hashable key that is equal for equal values.

    >>> value_key({"a": [1.0]}) == value_key({"a": [1.0]})
    True

    """
    if isinstance(value, Tensor):
        return value_key(value.detach().cpu().numpy())
    if isinstance(value, np.ndarray):
        return (str(value.dtype), value.shape, np.ascontiguousarray(value).tobytes())
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value), *(value_key(getattr(value, field.name)) for field in fields(value) if field.compare))
    if isinstance(value, Mapping):
        return frozenset((key, value_key(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(value_key, value))
    return value
