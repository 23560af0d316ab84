"""Tests of ``nibt.core.perturbation``; ``tests/metrics/test_road.py`` and the peers test single pixels."""

import numpy as np
import pytest
import torch

from nibt.core.inpainting import filled_in, interpolated


def ramp(height: int, width: int) -> torch.Tensor:
    """Return an image whose channels increase linearly, which means of neighbors keep."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([y, x, 2 * y - x])


def disc(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height / 2) ** 2 + (x - width / 2) ** 2 < (height / 4) ** 2


@pytest.mark.parametrize("size", [(40, 60), (200, 300), (384, 384)], ids=str)
def test_what_is_filled_in_continues_what_is_around_it(size: tuple[int, int]) -> None:
    image, removed = ramp(*size), disc(*size)
    spoiled = image.clone()
    spoiled[:, torch.from_numpy(removed)] = 9.0
    filled = filled_in(spoiled, removed)
    assert torch.equal(filled[:, torch.from_numpy(~removed)], image[:, torch.from_numpy(~removed)])
    np.testing.assert_allclose(filled, image, atol=0.02)


def test_blocks_are_filled_in_much_as_pixels_are() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 8, generator=generator), (192, 256), mode="bicubic")[0]
    removed = disc(192, 256)
    exact = torch.from_numpy(interpolated(image.double().numpy(), removed))
    assert float((filled_in(image, removed)[:, torch.from_numpy(removed)] - exact).abs().mean()) < 0.03


def test_the_dtype_of_an_image_is_kept() -> None:
    image = ramp(200, 200).half()
    assert filled_in(image, disc(200, 200)).dtype == torch.float16
    assert torch.equal(filled_in(image, np.zeros((200, 200), bool)), image)
