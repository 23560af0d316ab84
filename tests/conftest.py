"""What the tests share: the folder of photographs and golden numbers beside the repository, and a saved model."""

import os
from pathlib import Path

import pytest

import tiny

_SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the repository. Elsewhere its tests are skipped; where CI runs it must be there."""
    if not _SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI needs {_SHARED.name}/ beside the repository, and it is not there")
        pytest.skip("the folder with the photographs and the golden numbers is not beside the repository")
    return _SHARED


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Hugging Face CLIP on disk, for the command line."""
    folder = tmp_path_factory.mktemp("models") / "clip"
    made = tiny.clip()
    made.module.save_pretrained(folder)
    made.processor.save_pretrained(folder)
    return folder
