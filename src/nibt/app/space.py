"""A folder that runs the page as a Space: a README with its header, the requirements, and a program."""

import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pprint import pformat

from nibt.app.limits import Limits
from nibt.app.server import KEPT
from nibt.errors import BadOption, CannotWrite, Unsupported, install
from nibt.models._loading import embedded_generators
from nibt.options import Keywords

_README = """---
title: "{title}"
sdk: gradio
sdk_version: {gradio}
app_file: app.py
pinned: false
---

This page explains which parts of an image, and which words of a caption, make a model match them. Models: {models}.
It was written by `nibt serve --space`. Before you rely on its maps, audit the model: `nibt audit -m MODEL`.
"""
_REQUIREMENTS = """# or a wheel beside this file, such as ./nibt-{version}-py3-none-any.whl
nibt[app,models]=={version}
"""
_PROGRAM = '''"""The page of nibt as a Space."""

import os

from nibt.app.limits import Limits
from nibt.app.server import serve

MODELS = {models}
LIMITS = {limits}

serve(
    "0.0.0.0",
    int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
    MODELS,
    Limits(**LIMITS),
    public=True,
    framed=True,
)
'''


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
    title = f"nibt: {', '.join(Path(name).name for name in models) or 'explain images'}"
    texts = {
        "README.md": _README.format(
            title=title, gradio=gradio, models=", ".join([*KEPT, *embedded_generators(), *named])
        ),
        "requirements.txt": _REQUIREMENTS.format(version=version("nibt")),
        "app.py": _PROGRAM.format(models=pformat(named), limits=pformat(dict(limits))),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in local.items():
            shutil.copytree(source, folder / target)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (OSError, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise CannotWrite(f"cannot write {str(folder)!r} ({error.strerror or error}): choose another folder") from error
