"""The check of a device before a model is loaded, with a message of one line."""

import warnings

import torch

from nibt.errors import BadOption

_PYTORCH_ONLY = ("Could not run", "Expected one of", "0 INTERNAL")  # messages that help nobody
_LONGEST = 120  # characters of a reason


def check_device(device: str) -> None:
    """Check that PyTorch can compute on a device.

    Raises:
        BadOption: There is no such device, or this installation of PyTorch cannot use it.

    """
    reason = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names of devices that PyTorch has abandoned
            if torch.empty(0, device=device).device.type != "meta":  # which has no numbers
                return
    except Exception as error:  # of many types
        first = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        reason = "" if first.startswith(_PYTORCH_ONLY) or len(first) > _LONGEST else f" ({first})"
    raise BadOption(f"device {device!r} is not available{reason}: use {', '.join(_available())}")


def _available() -> list[str]:
    """Return the devices that PyTorch can use on this machine."""
    names = ["cpu"]
    names += [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    names += ["mps"] if torch.backends.mps.is_available() else []
    return names + (["xpu"] if torch.xpu.is_available() else [])
