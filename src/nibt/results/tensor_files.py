"""Files of tensors, in the format of safetensors."""

import json
from collections.abc import Mapping

from safetensors.torch import save as serialized
from torch import Tensor

from nibt.errors import BadInput
from nibt.io import load_json


def tensor_file(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the bytes of a safetensors file of finite numbers, with the names in its header sorted.

    The library writes metadata in arbitrary order, but equal contents must give equal bytes.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise BadInput(
                f"{name} was changed after it was computed, and has NaN or infinite numbers: compute it again"
            )

    data = serialized({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    length = int.from_bytes(data[:8], "little")
    header = load_json(data[8 : 8 + length])
    metadata = dict(sorted(header.pop("__metadata__", {}).items()))
    text = json.dumps({"__metadata__": metadata, **dict(sorted(header.items()))}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + data[8 + length :]
