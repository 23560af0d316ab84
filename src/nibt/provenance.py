"""What stands beside the numbers: the plan, the weights, the packages, the machine and the dates."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from nibt.errors import BadInput
from nibt.files import written_whole
from nibt.models.base import Model

_PACKAGES = ("nibt", "torch", "torchvision", "transformers", "open_clip_torch", "timm", "pillow", "numpy", "scipy",
             "scikit-learn", "pyarrow")  # fmt: skip


def begun() -> dict[str, Any]:
    """A session: when, with what, on what. No name of a person, a machine or a folder is in it."""
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.system(), "architecture": platform.machine(), "processor": _processor(),
            "processors": os.cpu_count(), "threads": torch.get_num_threads(), "python": platform.python_version(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }  # fmt: skip


def facts(model: Model) -> dict[str, Any]:
    """What tells a model from others."""
    return {"id": Path(model.id).name if Path(model.id).is_dir() else model.id, "family": model.family,
            "weights_hash": model.weights_hash, "dtype": str(model.dtype), "device": str(model.device)}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """What such a file holds.

    Raises:
        BadInput: it cannot be read.

    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(
            f"{str(path)!r} cannot be read: it should be there in the folder of a run or a job ({error})"
        ) from error


def write(path: Path, told: dict[str, Any]) -> None:
    """Write such a file, whole."""
    with written_whole(path) as draft:
        draft.write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")


def plain(told: Any) -> Any:
    """What such a file holds once this was written and read."""
    return json.loads(json.dumps(told, default=str))


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
