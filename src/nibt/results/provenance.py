"""Provenance of results: the request, package versions, the machine and dates."""

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nibt.errors import OtherRequest
from nibt.io import read_text
from nibt.records import JsonObject
from nibt.results.outputs import read_signature
from nibt.results.records import SessionRecord

_PACKAGES = (
    "nibt",
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "timm",
    "pillow",
    "numpy",
    "scipy",
    "scikit-learn",
    "pyarrow",
)
_NAMES = ("model.id", "model.revision")
"""What two equal models may have different."""


def session_info() -> SessionRecord:
    """Return the date, the package versions and the machine, without names of users, hosts or folders."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": _processor(),
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "accelerator": _accelerator(),
        },
    }


def _accelerator() -> str | None:
    """Return the name of the accelerator, or its type if torch knows no name."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device is None:
        return None
    name = getattr(getattr(torch, device.type), "get_device_name", None)
    return device.type if name is None else name()


def require_same(where: Path, stored: Mapping[str, Any], request: Mapping[str, Any], remedy: str) -> None:
    """Check that stored results answer the same request.

    The name and the commit of a model are ignored: models are equal if their weights and preprocessing are equal.
    """
    old, new = _flat(stored), _flat(plain(request))
    differing = [
        key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key) and not key.endswith(_NAMES)
    ]
    if differing:
        lines = "".join(f"\n  {key}: {_short(old.get(key))} (now {_short(new.get(key))})" for key in differing)
        raise OtherRequest(f"{where} has the results of another request:{lines}\n{remedy}")


def require_same_file(path: Path, request: Mapping[str, Any]) -> None:
    """Check that a file may be replaced: it answers the same request, or nibt did not write it.

    Only the keys of ``request`` are compared.
    """
    signature = read_signature(path)
    if signature is not None:
        stored = {name: signature.get(name) for name in request}
        require_same(
            path, stored, request, "Choose another name, or replace the file: --overwrite (in Python overwrite=True)"
        )


def _flat(data: Any, name: str = "") -> JsonObject:
    """Flatten nested plain data to dotted names; a list is one value unless it is a list of records."""
    if isinstance(data, Mapping) and data:
        flattened = [_flat(value, f"{name}.{key}" if name else str(key)) for key, value in data.items()]
    elif isinstance(data, list) and data and all(isinstance(record, Mapping) for record in data):
        flattened = [_flat(record, f"{name}[{place}]") for place, record in enumerate(data)]
    else:
        return {name: data}
    return {key: value for flat in flattened for key, value in flat.items()}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 100 else text[:100] + " ..."


def plain(data: Any) -> Any:
    """Return the data as it is after it was written to JSON and read again."""
    return json.loads(json.dumps(data, default=str))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Return the name of the processor, or an empty string if the system does not report it."""
    try:
        lines = read_text(Path("/proc/cpuinfo")).splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
