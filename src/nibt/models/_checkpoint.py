"""Whether a checkpoint is what the class of Transformers computes that reads it, and what follows its encoder.

A class with weights or code of its own may keep the ``model_type`` of a known model. Read as that model, it would give
other embeddings than its own, without an error.
"""

from copy import copy

from torch import nn

from nibt.errors import CannotLoad
from nibt.records import JsonObject

CONVERTED = "use a version that was converted to a class of Transformers, or write a family of your own for it"


def check_class(source: str, config: JsonObject, own_code: bool) -> None:
    """Check that Transformers has the class that saved a checkpoint, and that no ``own_code`` is unknown to nibt."""
    places = config.get("auto_map")
    code = [place for key, place in places.items() if key != "AutoConfig"] if isinstance(places, dict) else []
    if code and not own_code:
        raise CannotLoad(
            f"{source!r} comes with its own code ({str(code[0])[:100]} in auto_map of config.json), which nibt does "
            f"not run, and which may compute something else: {CONVERTED}"
        )

    named = config.get("architectures")
    import transformers

    unknown = [name for name in named if not hasattr(transformers, str(name))] if isinstance(named, list) else []
    if unknown:
        raise CannotLoad(
            f"{source!r} was saved by the class {str(unknown[0])[:100]}, which Transformers {transformers.__version__} "
            f"does not have, so its model_type does not say what it computes: {CONVERTED}"
        )


def attached(module: nn.Module, after: nn.Module | None) -> nn.Module:
    """Return a module with what follows its encoder as a part, so that the hash of its weights has it.

    The module is not changed: the one that is returned has the same parts.
    """
    if after is None:
        return module

    # a shallow copy has the dictionary of parts of the module itself, so it gets one of its own
    whole = copy(module)
    device = next(module.parameters()).device
    whole.__dict__["_modules"] = {**module._modules, "after_encoder": after.to(device)}
    return whole
