"""Whether a checkpoint of Transformers is what the class that reads it computes: its class, its code, its weights.

A class with weights or code of its own may keep the ``model_type`` of a known model. Read as that model, it would give
other embeddings than its own, without an error.
"""

import re
from collections.abc import Iterable, Mapping

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


def check_weights(source: str, module: nn.Module, info: Mapping[str, Iterable[str]], unread: str) -> list[str]:
    """Check that a class and the file of its weights have the same ones; return those that no result depends on.

    Weights that the file lacks are set to zero if nothing reads them.

    Args:
        source: The name of the checkpoint.
        module: The model.
        info: The names of missing and of unexpected weights, and those of other shapes.
        unread: A pattern of weights that nothing reads.
    """
    ignored = "|".join(filter(None, (unread, _COMPUTED)))
    missing, own, other = set(info["missing_keys"]), set(info["unexpected_keys"]), info.get("mismatched_keys") or ()
    unused = {name for name in missing if re.search(ignored, name)}
    if missing - unused:
        first = min(missing - unused)
        raise CannotLoad(
            f"{source!r} lacks {len(missing - unused)} weights, such as {first!r}, which would be random: save "
            "the whole model"
        )
    for name in unused & dict(module.named_parameters()).keys():
        module.get_parameter(name).data.zero_()  # which Transformers draws at random
    known, own = own, {name for name in own if not re.search(f"{ignored}|{_POOLER}", name)}
    if own or other:
        first = min(own) if own else next(iter(other))[0]
        problem = "that the class does not have" if own else "of another shape"
        raise CannotLoad(
            f"{source!r} has {len(own) or len(list(other))} weights, such as {first!r}, {problem}: "
            f"{type(module).__name__} would compute something else than the model that was saved: {_CONVERTED}"
        )
    return sorted(known | unused)
