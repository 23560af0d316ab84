"""Towers whose score is a weighted sum of the inputs, so that the share of each unit is known.

A complete method must return exactly these shares, whatever its path, its quadrature or its samples.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.units import Grid, Units, Word, Words
from nibt.models._text_tower import TextTower
from nibt.models.base import ImageTower, Inputs, Model
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding

PATCH, ROWS, COLUMNS, LENGTH = 4, 2, 3, 7


class _Doubling(nn.Module):
    def forward(self, stream: Tensor) -> Tensor:
        return 2 * stream


class _Net(nn.Module):
    """Patches or words, two blocks that double them, and a sum with weights for each row."""

    def __init__(self, begin: nn.Module, rows: int, width: int) -> None:
        super().__init__()
        self.begin, self.blocks = begin, nn.ModuleList([_Doubling(), _Doubling()])
        self.weights = nn.Parameter(torch.randn(rows, width, generator=torch.Generator().manual_seed(5)))

    def end(self, stream: Tensor) -> Embedding:
        total = (stream * self.weights[: stream.shape[1]]).sum((1, 2))
        return torch.stack([total, torch.zeros_like(total)], -1)

    def forward(self, values: Tensor) -> Embedding:
        stream = self.begin(values)
        for block in self.blocks:
            stream = block(stream)
        return self.end(stream)


class _Patches(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return nn.functional.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)


class LinearImage(ImageTower):
    def __init__(self) -> None:
        super().__init__()
        self.root = _Net(_Patches(), ROWS * COLUMNS, 3 * PATCH**2)

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.root.blocks)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)

    def head(self, stream: Tensor, read: dict[str, Tensor]) -> Embedding:
        return self.root.end(stream)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(ROWS, COLUMNS)


class LinearText(TextTower):
    """Row 0 starts a caption, and the embedding of the padding is zero; the captions of a batch are padded."""

    def __init__(self) -> None:
        super().__init__()
        self.root = _Net(nn.Embedding(10, 4), LENGTH, 4)
        with torch.no_grad():
            self.root.begin.weight.normal_(generator=torch.Generator().manual_seed(6))[0] = 0.0

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.root.blocks)

    @property
    def embedder(self) -> nn.Module:
        return self.root.begin

    @property
    def pad(self) -> tuple[int, str]:
        return 0, "<pad>"

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)

    def head(self, stream: Tensor, read: dict[str, Tensor]) -> Embedding:
        return self.root.end(stream)

    def valid_tokens(self, inputs: Inputs, hidden: Tensor) -> Tensor:
        return inputs.values != 0

    def group(self, item: Any) -> Hashable:
        return None

    def tokens(self, caption: str) -> Tokens:
        raise NotImplementedError

    def captions(self, ids: Sequence[Sequence[int]]) -> Inputs:
        """Return captions of word ids; 9 starts each."""
        longest = max(map(len, ids)) + 1
        values = torch.tensor([[9, *row, *[0] * (longest - len(row) - 1)] for row in ids])
        words = tuple(tuple(Word(str(number), (place,)) for place, number in enumerate(row, 1)) for row in ids)
        texts = tuple(tuple(map(str, row)) for row in values.tolist())
        return Inputs(values, words=Words(texts, words, (values > 0) & (values < 9)))


IMAGE, TEXT = LinearImage(), LinearText()


def _side(tower: Any, inputs: Inputs) -> Side:
    model = Model("linear", "linear", tower.root, IMAGE, TEXT, 1.0)
    return Side(model, tower.trace(inputs), lambda embedding: embedding[..., 0])


def image_side(count: int = 2) -> Side:
    generator = torch.Generator().manual_seed(7)
    return _side(IMAGE, Inputs(torch.randn(count, 3, ROWS * PATCH, COLUMNS * PATCH, generator=generator)))


def text_side(ids: Sequence[Sequence[int]] = ((3, 1, 4, 1, 5), (2, 6))) -> Side:
    return _side(TEXT, TEXT.captions(ids))


def parts(side: Side) -> Tensor:
    """Return the known share of each explained row."""
    stream = side.stem().hidden
    scores = (4 * stream * side.tower.root.weights[: stream.shape[1]]).sum(-1).detach()
    return side.stem().units.keep(scores)


both_sides = pytest.mark.parametrize("of", [image_side(), text_side()], ids=["image", "text"])
