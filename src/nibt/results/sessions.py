"""Records of computations: their dates, the versions of packages, and the machine."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from typing_extensions import TypedDict

from nibt.io import read_text


class MachineRecord(TypedDict):
    """The machine, without its host name."""

    system: str
    architecture: str
    processor: str
    processors: int | None
    threads: int
    python: str
    accelerator: str | None


class SessionRecord(TypedDict):
    """The date, the package versions and the machine of a computation."""

    began: Annotated[str, Field(description="ISO 8601, UTC.")]
    versions: dict[str, str | None]
    machine: MachineRecord


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
    "pyarrow",
)


def session_info() -> SessionRecord:
    """Return the date, the package versions and the machine, without names of users, hosts or folders."""
    try:
        lines = read_text(Path("/proc/cpuinfo")).splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        processor = platform.processor()

    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    name = None if device is None else getattr(getattr(torch, device.type), "get_device_name", None)
    accelerator = device and (device.type if name is None else name())  # its name, or its type if torch knows no name
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _version(name) for name in _PACKAGES},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "processor": processor,
            "processors": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "accelerator": accelerator,
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
