"""Runs the notebooks of ``docs/tutorials`` and stores their outputs: ``python docs/notebooks.py [NAME ...]``.

Each notebook runs in an empty folder. Pictures are stored as JPEG files of at most 900 pixels in width, and the
metadata get a stamp: a hash of the cells, the version of nibt, and numbers that the code computes now (``probe``).
``tests/test_notebooks.py`` compares the stamp with the code. So a notebook is stale if a cell, the version or an
embedded model changes, or if the methods compute other numbers.
"""

import argparse
import base64
import hashlib
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

import nibt

FOLDER = Path(__file__).parent / "tutorials"
WIDTH, QUALITY, MOST_BYTES = 900, 82, 400_000
PROBE = {"scenes": ("nib", "gae", "occlusion", "random"), "lite": ("nib", "grad_cam")}
"""The methods whose scores are in the stamp, by model."""


def notebooks() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"))


def main() -> None:
    """Run the notebooks of the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as first_steps; all without one")
    names = parser.parse_args().names
    for path in notebooks():
        if not names or path.stem in names:
            path.write_text(nbformat.writes(run(path)) + "\n", encoding="utf-8")
            print(f"{path.name}: {path.stat().st_size:,} bytes")


def run(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with new outputs and a new stamp."""
    book = nbformat.read(path, as_version=4)
    with TemporaryDirectory() as folder:
        NotebookClient(book, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":  # progress bars and warnings about the machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            smaller(output)
    book.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "nibt": stamp(book),
        }
    )
    return book


def smaller(output: Any) -> None:
    """Store a picture as one JPEG file."""
    data = output.get("data", {})
    if "image/png" not in data:
        return
    image = Image.open(BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGB")
    image.thumbnail((WIDTH, 10 * WIDTH))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    data["image/jpeg"] = base64.b64encode(buffer.getvalue()).decode()


def stamp(book: nbformat.NotebookNode) -> dict[str, Any]:
    """Return what ties stored outputs to the code that made them."""
    sources = "\n\n".join(f"{cell.cell_type}: {cell.source}" for cell in book.cells)
    models = [name for name in PROBE if f'"{name}"' in sources]
    return {
        "cells": hashlib.sha256(sources.encode()).hexdigest(),
        "version": nibt.__version__,
        "probe": {name: probe(name) for name in models},
    }


@cache
def probe(name: str) -> dict[str, Any]:
    """Return the hash of a model's weights, and the scores of a caption's words by several methods."""
    model, scores = nibt.load_model(name), {}
    for method in PROBE[name]:
        answer = nibt.explain(model, "sample:collage", "a cat and a cup of coffee", method)
        scores[method] = [float(f"{word.score:.3g}") for word in answer.words]
    return {"weights_hash": answer.model["weights_hash"], "scores": scores}


if __name__ == "__main__":
    main()
