"""The models that ship with the package."""

from importlib.resources import files
from pathlib import Path

EMBEDDED = Path(str(files("nibt") / "models" / "embedded"))
"""The folder of the models that ship with the package."""


def embedded() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/nibt.json"))


def embedded_generators() -> list[str]:
    """Return the names of the generators that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/generator.json"))


def embedded_hint(name: str) -> str:
    """Return what to write instead of an embedded model with a suffix, such as ``lite:256``, or nothing."""
    model, colon, suffix = name.partition(":")
    if not colon or model not in (*embedded(), *embedded_generators()):
        return ""
    size = f" For images of another size: image_size={suffix} (--load image_size={suffix})." if suffix.isdigit() else ""
    return f" The embedded model {model} takes nothing after a colon: write {model}.{size}"


def alternatives() -> str:
    """Return the models that need no hub."""
    models, generators = (", ".join(names) or "none installed" for names in (embedded(), embedded_generators()))
    return (
        f"an embedded model ({models}; for answers {generators}), or the path of a local folder with a saved Hugging "
        "Face or OpenCLIP model"
    )
