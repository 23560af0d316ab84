"""Folders of sentence-transformers, whose ``modules.json`` lists what follows the encoder."""

from pathlib import Path

from nibt.errors import CannotLoad
from nibt.io import load_json

_APPLIED = {"CLIPModel", "Transformer", "Pooling", "Normalize"}
"""The modules that nibt computes with: encoders, their pooling, and the length of an embedding, which has no effect."""


def check_modules(name: str, folder: Path) -> None:
    """Check that a folder has no module that would be left out, such as a further projection.

    Raises:
        CannotLoad: It has one.

    """
    path = folder / "modules.json"
    if not path.is_file():
        return
    try:
        modules = load_json(path)
        kinds = [str(module["type"]).rpartition(".")[2] for module in modules]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotLoad(f"{path} does not list the modules of sentence-transformers ({error})") from error
    others = [kind for kind in kinds if kind not in _APPLIED]
    if others:
        raise CannotLoad(
            f"{name!r} has the module {others[0]} of sentence-transformers after its encoder, which nibt does not "
            "apply: its embeddings would be others; save the model without it, with the module merged into its weights"
        )
