"""Tests of ``nibt.data.images``: whatever a file, an array or a tensor holds, it is an image or an error in words."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nibt.data.images import read_image
from nibt.data.segments import read_segments
from nibt.datasets.base import Record
from nibt.errors import BadInput, NibtError
from nibt.results.outputs import is_own

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8))


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    PICTURE.save(buffer, kind)
    return buffer.getvalue()


Image.init()
FORMATS = [
    *("DDS", "PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "ICO", "TGA", "PCX", "SGI", "JPEG2000"),
    *(["AVIF"] if "AVIF" in Image.SAVE else []),
]
FILES = {kind: encoded(kind) for kind in FORMATS}


@st.composite
def broken_files(draw: Any) -> tuple[str, bytes]:
    """Return the file of an image with some bytes replaced, or cut."""
    kind = draw(st.sampled_from(FORMATS))
    data = bytearray(FILES[kind])
    for place in draw(st.lists(st.integers(0, len(data) - 1), max_size=6)):
        data[place] = draw(st.integers(0, 255))
    return kind, bytes(data[: draw(st.integers(1, len(data)))])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken_files())
def test_a_broken_file_is_an_image_or_an_error_in_words(tmp_path: Path, file: tuple[str, bytes]) -> None:
    """As an image in memory and on disk, as segments, and as an output that a call would replace."""
    path = tmp_path / f"x.{file[0].lower()}"
    path.write_bytes(file[1])
    messages = []
    for read in (lambda: read_image(file[1]), lambda: read_image(path), lambda: read_segments(path, (24, 24))):
        try:
            read()
        except BadInput as error:
            messages.append(str(error))
    assert all(len(message) < 800 for message in messages)
    assert not is_own(path)


ODD: dict[str, Any] = {
    "DDS of another format": b"DDS " + bytes(range(200)),
    "complex": np.zeros((4, 4, 3), complex),
    "objects": np.array([[None] * 4] * 4, object),
    "dates": np.zeros((4, 4), "datetime64[s]"),
    "texts": np.array([["a"] * 4] * 4),
    "records": np.zeros((4, 4), [("a", int)]),
    "meta": torch.zeros(3, 4, 4, device="meta"),
    "sparse": torch.zeros(3, 4, 4).to_sparse(),
    "complex tensor": torch.zeros(3, 4, 4, dtype=torch.complex64),
    "no rows": np.zeros((0, 4, 4, 3)),
    "no columns": Image.new("RGB", (0, 4)),
    "one number": np.array(3),
    "long name": "x" * 5000,
    "null character": "a\0b.png",
    "device": "/dev/zero",
    "folder": "/dev",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sources_are_refused_in_words(name: str) -> None:
    with pytest.raises(NibtError) as refused:
        read_image(ODD[name])
    assert len(str(refused.value)) < 400


def test_images_that_are_closed_and_files_that_never_end_are_refused(tmp_path: Path) -> None:
    closed = PICTURE.copy()
    closed.close()
    with pytest.raises(BadInput, match="broken or truncated"):
        read_image(closed)
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(BadInput, match="not a regular file"):
            read_image(path)
        assert Record(("a cat",), str(path)).digest() == ""
        assert Record(("a cat",), str(path)).with_bytes().image == str(path)
