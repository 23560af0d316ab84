"""Copies of the working tree for the scripts of this folder."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tracked_files(root: Path = ROOT) -> list[str]:
    """The tracked files that exist, as POSIX paths relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True)
    return sorted(name for name in listed.stdout.split("\0") if name and (root / name).is_file())


def copy_tree(destination: Path, root: Path = ROOT) -> Path:
    """Copy the tracked files, as they are in the working tree, into a new folder."""
    for name in tracked_files(root):
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target)
    return destination


def venv_program(environment: Path, name: str) -> Path:
    """The path of a program in a virtual environment."""
    return environment / ("Scripts" if os.name == "nt" else "bin") / (f"{name}.exe" if os.name == "nt" else name)
