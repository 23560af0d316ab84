"""Fixtures of the tests of this folder."""

from collections.abc import Callable

import pytest
from PIL import Image, ImageDraw


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Image.Image]], list[str]]:
    """Return the texts that are drawn on an image, in order."""

    def written(make: Callable[[], Image.Image]) -> list[str]:
        lines: list[str] = []
        make()  # the search for a font with all characters draws, too; its answers are cached
        own = ImageDraw.ImageDraw.text
        with monkeypatch.context() as patch:
            patch.setattr(
                ImageDraw.ImageDraw,
                "text",
                lambda pen, at, text, *rest, **options: (lines.append(text), own(pen, at, text, *rest, **options)),
            )
            make()
        return lines

    return written
