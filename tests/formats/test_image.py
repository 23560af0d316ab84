"""Tests of ``nibt.formats.image``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nibt.formats.image import encoded
from nibt.results.outputs import read_signature

REQUEST = {"source": "a.png", "method": {"name": "nib", "steps": 4}}


def drawing(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1"])
def test_signature_of_a_png_is_that_of_its_pixels(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(drawing(mode), "PNG", REQUEST))
    assert read_signature(path) == REQUEST

    with Image.open(path) as written:
        written.load()  # whose checksums are right
        assert np.array_equal(np.array(written), np.array(drawing(mode)))

    path.write_bytes(path.read_bytes() + b"x")
    assert read_signature(path) is None


def test_a_png_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []
    save = Image.Image.save

    def counted(image: Image.Image, target: Any, *rest: Any, **options: Any) -> None:
        saved.append(str(rest))
        save(image, target, *rest, **options)

    monkeypatch.setattr(Image.Image, "save", counted)
    encoded(drawing("RGB"), "PNG", REQUEST)
    assert len(saved) == 1
