"""What stands beside the numbers: the plan, the weights, the packages, the machine and the dates."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nibt.errors import BadInput, OtherRequest, WouldOverwrite
from nibt.io import atomic_write
from nibt.outputs import read_signature
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


def session_info() -> SessionRecord:
    """Return when, with what and on what this runs, without the name of a person, a machine or a folder."""
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
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def require_same(where: Path, stored: Mapping[str, Any], request: Mapping[str, Any], remedy: str) -> None:
    """Refuse to put the results of one request where those of another are.

    Models are the same if their weights and the way in which inputs are prepared are, whatever they are called.

    Raises:
        OtherRequest: Anything differs; the message has the old and the new value of each difference.

    """
    old, new = _flat(stored), _flat(plain(request))
    differing = [
        key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key) and not key.endswith("model.id")
    ]
    if differing:
        lines = "".join(f"\n  {key}: {_short(old.get(key))} (now {_short(new.get(key))})" for key in differing)
        raise OtherRequest(f"{where} holds the results of another request:{lines}\n{remedy}")


def require_same_file(path: Path, request: Mapping[str, Any]) -> None:
    """Refuse to replace a file of nibt's that answers another request; other keys than those of ``request`` are left.

    Raises:
        OtherRequest: Anything differs; the message has the old and the new value of each difference.

    """
    signature = read_signature(path)
    if signature is not None:
        stored = {name: signature.request.get(name) for name in request}
        require_same(
            path, stored, request, "Choose another name, or replace the file: --overwrite (in Python overwrite=True)"
        )


def _flat(data: Any, name: str = "") -> dict[str, Any]:
    """Nested plain data by dotted names; lists are values, except those of records."""
    if isinstance(data, Mapping) and data:
        parts = [_flat(value, f"{name}.{key}" if name else str(key)) for key, value in data.items()]
    elif isinstance(data, list) and data and all(isinstance(one, Mapping) for one in data):
        parts = [_flat(one, f"{name}[{place}]") for place, one in enumerate(data)]
    else:
        return {name: data}
    return {key: value for part in parts for key, value in part.items()}


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 100 else text[:100] + " ..."


def read(path: Path) -> dict[str, Any]:
    """What such a file holds.

    Raises:
        BadInput: It cannot be read.

    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"expected an object, got {type(data).__name__}")
        return data
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read: it should be there in the folder of a run or a job ({error})"
        ) from error


def write(path: Path, data: dict[str, Any]) -> None:
    """Write such a file, whole."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(data, indent=1, default=str) + "\n", encoding="utf-8")


def check_reports(manifest: Path, names: Sequence[str], overwrite: bool = False) -> None:
    """Refuse reports of a run that were edited since, before any work is done; as ``write_reports`` would.

    Raises:
        WouldOverwrite: Such a file is there, and ``overwrite`` is not given.

    """
    digests: dict[str, list[str]] = read(manifest).get("reports", {}) if manifest.exists() else {}
    for path in (manifest.parent / name for name in names):
        if path.exists() and not overwrite and sha256(path.read_bytes()).hexdigest() not in digests.get(path.name, []):
            raise WouldOverwrite(
                f"{path} was changed since nibt wrote it, or nibt did not write it: move it, or "
                "replace it by --overwrite (in Python overwrite=True)"
            )


def write_reports(manifest: Path, reports: Mapping[str, bytes], overwrite: bool = False) -> list[Path]:
    """Write the reports of a run beside its ``manifest``, which keeps their digests.

    Reports that were edited since, or that something else wrote, are not replaced.

    Raises:
        WouldOverwrite: Such a file is there, and ``overwrite`` is not given.
        CannotWrite: A file cannot be written.

    """
    check_reports(manifest, list(reports), overwrite)
    stored = read(manifest)
    digests: dict[str, list[str]] = stored.get("reports", {})
    files = {manifest.parent / name: data for name, data in reports.items()}
    known = {path.name: [*digests.get(path.name, [])[-1:], sha256(data).hexdigest()] for path, data in files.items()}
    write(manifest, {**stored, "reports": {**digests, **known}})
    for path, data in files.items():
        with atomic_write(path) as draft:
            draft.write_bytes(data)
    return list(files)


def plain(data: Any) -> Any:
    """What such a file holds once this was written and read."""
    return json.loads(json.dumps(data, default=str))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's own name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
