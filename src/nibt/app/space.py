"""A folder that runs the page as a Space: a README with its header, the requirements, and a program."""

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from pprint import pformat

from nibt.app.limits import Limits
from nibt.app.server import KEPT
from nibt.errors import BadOption, CannotWrite, Unsupported, install
from nibt.io import read_text
from nibt.models._loading import embedded_generators
from nibt.options import Keywords

_FILES = files("nibt.app") / "space_files"
"""The files of a Space, with names in braces for what differs."""


def write_space(folder: Path, models: Sequence[str], limits: Keywords) -> None:
    """Write the folder of a Space. Models in folders are copied into it."""
    Limits(**limits)
    try:
        gradio = version("gradio")
    except PackageNotFoundError as error:
        raise Unsupported(f"the page needs gradio: {install('app')}") from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadOption(f"--space must be a new or an empty folder (got {str(folder)!r}): choose another name")
    for name in models:
        looks_local = name.startswith((".", "/", "~")) or Path(name).exists()
        if looks_local and not any(Path(name).glob("*config*.json")):
            raise BadOption(
                f"{name!r} is not the folder of a saved model: give a folder with its configuration, or a name"
            )
        if Path(name).is_dir() and folder.resolve().is_relative_to(Path(name).resolve()):
            raise BadOption(f"--space must not be in the folder of a model (got {str(folder)!r}): choose another place")
    local = {name: f"models/{Path(name).resolve().name}" for name in models if Path(name).is_dir()}
    if len(set(local.values())) < len(local):
        raise BadOption(f"the folders of models must have different names (got {', '.join(local)}): rename one")
    named = [local.get(name, name) for name in models]
    values = {
        "title": f"nibt: {', '.join(Path(name).name for name in models) or 'explain images'}",
        "gradio": gradio,
        "version": version("nibt"),
        "models": ", ".join([*KEPT, *embedded_generators(), *named]),
        "served": pformat(named),
        "limits": pformat(dict(limits)),
    }
    sources = {"README.md": "README.md", "requirements.txt": "requirements.txt", "app.py": "app.txt"}
    texts = {name: read_text(_FILES / source).format(**values) for name, source in sources.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in local.items():
            shutil.copytree(source, folder / target)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (OSError, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotWrite(f"cannot write {str(folder)!r} ({error.strerror or error}): choose another folder") from error
