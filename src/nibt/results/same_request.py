"""Stored results that answer the same request as a call."""

import json
from collections.abc import Mapping
from pathlib import Path

from nibt.errors import OtherRequest
from nibt.records import JsonObject
from nibt.results.outputs import read_signature

_NAMES = ("model.id", "model.revision")
"""What two equal models may have different."""


def require_same(where: Path, stored: Mapping[str, object], request: Mapping[str, object], remedy: str) -> None:
    """Check that stored results answer the same request.

    The name and the commit of a model are ignored: models are equal if their weights and preprocessing are equal.
    """
    old = _flat(stored)
    new = _flat(json.loads(json.dumps(request, default=str)))
    differing = [
        key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key) and not key.endswith(_NAMES)
    ]
    if differing:
        lines = "".join(f"\n  {key}: {_short(old.get(key))} (now {_short(new.get(key))})" for key in differing)
        raise OtherRequest(f"{where} has the results of another request:{lines}\n{remedy}")


def require_same_file(path: Path, request: Mapping[str, object]) -> None:
    """Check that a file may be replaced: it answers the same request, or nibt did not write it.

    Only the keys of ``request`` are compared.
    """
    signature = read_signature(path)
    if signature is not None:
        stored = {name: signature.get(name) for name in request}
        require_same(
            path, stored, request, "Choose another name, or replace the file: --overwrite (in Python overwrite=True)"
        )


def _flat(data: object, name: str = "") -> JsonObject:
    """Flatten nested plain data to dotted names; a list is one value unless it is a list of records."""
    if isinstance(data, Mapping) and data:
        flattened = [_flat(value, f"{name}.{key}" if name else str(key)) for key, value in data.items()]
    elif isinstance(data, list) and data and all(isinstance(record, Mapping) for record in data):
        flattened = [_flat(record, f"{name}[{place}]") for place, record in enumerate(data)]
    else:
        return {name: data}
    return {key: value for flat in flattened for key, value in flat.items()}


def _short(value: object) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 100 else text[:100] + " ..."
