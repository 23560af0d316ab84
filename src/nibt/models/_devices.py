"""Devices by their names, ``cuda``, ``mps``, ``xpu`` or ``cpu``: which are available, waiting, and their memory."""

import gc
import warnings
from typing import Any

import torch

from nibt.errors import BadOption

_PYTORCH_ONLY = ("Could not run", "Expected one of", "0 INTERNAL")  # messages that help nobody
_LONGEST = 120  # characters of a reason
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
"""Parts of the messages of a RuntimeError: of mps, of the CPU, of cuBLAS and cuDNN."""


def check_device(device: str) -> None:
    """Check that PyTorch can compute on a device."""
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names of devices that PyTorch has abandoned
            named = torch.device(device)
            torch.empty(0, device=named)
            if named.type != "meta" and (named.type != "cpu" or not named.index):  # numbers, and a single processor
                return
    except Exception as error:  # of many types
        first = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        reason = "" if first.startswith(_PYTORCH_ONLY) or len(first) > _LONGEST else f" ({first})"
    raise BadOption(f"device {device!r} is not available{reason}: use {', '.join(_available())}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _OUT_OF_MEMORY)


def free_memory() -> None:
    """Free memory that nobody uses: cycles of Python, and what torch keeps of an accelerator."""
    gc.collect()
    accelerator: Any = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if accelerator is not None:
        getattr(torch, accelerator.type).empty_cache()


def _available() -> list[str]:
    """Return the devices that PyTorch can use on this machine."""
    names = ["cpu"]
    names += [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    names += ["mps"] if torch.backends.mps.is_available() else []
    return names + (["xpu"] if torch.xpu.is_available() else [])
