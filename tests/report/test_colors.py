"""Tests of ``nibt.report.colors``."""

import numpy as np

from nibt.report.colors import ink_on, on_paper


def test_ink_is_readable_on_every_color_of_the_scale() -> None:
    def luminance(colour: tuple[int, ...]) -> float:
        parts = [part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    for share in np.linspace(-1, 1, 201).tolist():
        low, high = sorted((luminance(on_paper(share)), luminance(ink_on(on_paper(share)))))
        assert (high + 0.05) / (low + 0.05) >= 4.5, share
