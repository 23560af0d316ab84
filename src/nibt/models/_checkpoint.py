"""Whether a checkpoint of Transformers is what the class that reads it computes: its class, its code, its weights.

A class with weights or code of its own may keep the ``model_type`` of a known model. Read as that model, it would give
other embeddings than its own, without an error.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from nibt.errors import CannotLoad
from nibt.records import JsonObject

_COMPUTED = r"position_ids$|rotary_emb\.inv_freq$|\.masked_bias$|relative_position_index$"
"""Buffers of older versions of Transformers, which the class computes itself."""
_POOLER = r"(^|\.)pooler\.dense\.(weight|bias)$"
"""A pooler after a last state, which a class without one does not read."""
_CONVERTED = "use a version that was converted to a class of Transformers, or write a family of your own for it"


def check_class(source: str, config: JsonObject, own_code: bool) -> None:
    """Check that Transformers has the class that saved a checkpoint, and that no other code computes it.

    Args:
        source: The name of the checkpoint.
        config: Its ``config.json``.
        own_code: Whether nibt knows what code of its own the checkpoint comes with.
    """
    places = config.get("auto_map")
    code = [place for key, place in places.items() if key != "AutoConfig"] if isinstance(places, dict) else []
    if code and not own_code:
        raise CannotLoad(
            f"{source!r} comes with its own code ({str(code[0])[:100]} in auto_map of config.json), which nibt does "
            f"not run, and which may compute something else: {_CONVERTED}"
        )
    named = config.get("architectures")
    import transformers

    unknown = [name for name in named if not hasattr(transformers, str(name))] if isinstance(named, list) else []
    if unknown:
        raise CannotLoad(
            f"{source!r} was saved by the class {str(unknown[0])[:100]}, which Transformers {transformers.__version__} "
            f"does not have, so its model_type does not say what it computes: {_CONVERTED}"
        )


def check_weights(source: str, module: nn.Module, info: Mapping[str, Any], unread: str) -> list[str]:
    """Check that a class and the file of its weights have the same ones; return those that no result depends on.

    Weights that the file lacks are set to zero if nothing reads them.

    Args:
        source: The name of the checkpoint.
        module: The model.
        info: The names of missing and of unexpected weights, and those of other shapes.
        unread: A pattern of weights that nothing reads.
    """
    ignored, mismatched = "|".join(filter(None, (unread, _COMPUTED))), [name for name, *_ in info["mismatched_keys"]]
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    unused = {name for name in missing if re.search(ignored, name)}
    if missing - unused:
        raise CannotLoad(
            f"{source!r} lacks {len(missing - unused)} weights, such as {min(missing - unused)!r}, which would be "
            "random: save the whole model"
        )
    for name in unused & dict(module.named_parameters()).keys():
        module.get_parameter(name).data.zero_()  # which Transformers draws at random
    needless = {name for name in unexpected if re.search(f"{ignored}|{_POOLER}", name)}
    if wrong := sorted(unexpected - needless) or mismatched:
        problem = "that the class does not have" if unexpected - needless else "of another shape"
        raise CannotLoad(
            f"{source!r} has {len(wrong)} weights, such as {wrong[0]!r}, {problem}: {type(module).__name__} would "
            f"compute something else than the model that was saved: {_CONVERTED}"
        )
    return sorted(needless | unused)
