"""Towers that are equal for certain, for the axioms of attribution: the same function with other parameters.

They are small and in double precision, so that no difference is due to rounding. None of their rows is special (no
class, start or end token), so that the whole map is visible. NumPy draws the weights, since its numbers are the same
everywhere.
"""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.units import Grid, Units, Word, Words
from nibt.models._text_tower import TextTower
from nibt.models.base import ImageTower, Inputs, Model, Tower
from nibt.preprocessing.captions import Tokens
from nibt.targets.base import CosineSimilarity
from nibt.types import Embedding, Modality

WIDTH, HEADS, DEPTH, PATCH, ROWS, COLUMNS, BATCH = 12, 3, 6, 4, 2, 3, 4
UNITS, HEAD = ROWS * COLUMNS, WIDTH // HEADS
IGNORED, ALIKE = 2, (1, 3)
"""The unit that a tower ignores, and the two units that it cannot distinguish; the middle is nearer to the first of
these.
"""


class Block(nn.Module):
    """A transformer block, with norms before its halves or without any. Rows that are not ``seen`` are masked."""

    seen: Tensor

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) if norm else nn.Identity() for _ in range(2))
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.register_buffer("seen", torch.ones(UNITS, dtype=torch.bool))

    def forward(self, stream: Tensor) -> Tensor:
        inner = self.norms[0](stream)
        parts = [
            part(inner).unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for part in (self.query, self.key, self.value)
        ]
        mixed = F.scaled_dot_product_attention(*parts, attn_mask=self.seen.expand(UNITS, UNITS))
        stream = stream + self.out(mixed.transpose(1, 2).flatten(2))
        return stream + self.down(F.gelu(self.up(self.norms[1](stream))))


class Patches(nn.Module):
    def forward(self, pixels: Tensor) -> Tensor:
        return F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2)


class Net(nn.Module):
    """Content times ``gate`` plus positions, blocks, and a head that averages the rows with the weights ``reads``."""

    gate: Tensor
    reads: Tensor

    def __init__(self, modality: Modality, norm: bool) -> None:
        super().__init__()
        patches = nn.Sequential(Patches(), nn.Linear(3 * PATCH**2, WIDTH))
        self.begin = patches if modality == "image" else nn.Embedding(10, WIDTH)
        self.places, self.blocks = nn.Parameter(torch.empty(UNITS, WIDTH)), nn.ModuleList(map(Block, [norm] * DEPTH))
        self.norm, self.out = nn.LayerNorm(WIDTH) if norm else nn.Identity(), nn.Linear(WIDTH, 5)
        self.register_buffer("gate", torch.ones(UNITS, 1))
        self.register_buffer("reads", torch.ones(UNITS, 1, dtype=torch.double) / UNITS)

    def end(self, stream: Tensor) -> Embedding:
        return self.out(self.norm((self.reads * stream).sum(1)))

    def forward(self, values: Tensor) -> Embedding:
        stream = self.gate * self.begin(values) + self.places
        for block in self.blocks:
            stream = block(stream)
        return self.end(stream)

    @property
    def readers(self) -> list[nn.Linear]:
        """The layers that read the stream."""
        return [part for one in self.blocks for part in (one.query, one.key, one.value, one.up)] + [self.out]

    @property
    def writers(self) -> list[nn.Linear]:
        """The layers that write to the stream, except for the first tokens."""
        return [part for one in self.blocks for part in (one.out, one.down)]


class _Small(Tower):
    root: Net

    def __init__(self, root: Net) -> None:
        super().__init__()
        self.root = root

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.root.blocks)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)

    def head(self, stream: Tensor, read: dict[str, Tensor]) -> Embedding:
        return self.root.end(stream)


class SmallImage(_Small, ImageTower):
    def empty_inputs(self) -> Inputs:
        return Inputs(torch.zeros(1, 3, ROWS * PATCH, COLUMNS * PATCH, dtype=torch.double))

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(ROWS, COLUMNS)


class SmallText(_Small, TextTower):
    """Captions of six words; the id 0 is padding and occurs in no caption."""

    pad = (0, "<pad>")

    @property
    def embedder(self) -> nn.Module:
        return self.root.begin

    def empty_inputs(self) -> Inputs:
        return Inputs(torch.zeros(1, UNITS, dtype=torch.long))

    def group(self, item: Any) -> Hashable:
        return None

    def tokens(self, caption: str) -> Tokens:
        raise NotImplementedError


Change = Callable[[Net], None]
Score = Callable[[Embedding], Tensor]


def net(modality: Modality, norm: bool, *changes: Change) -> Net:
    """Return a net with random weights, after some changes."""
    net_, draws = Net(modality, norm).double().eval(), np.random.default_rng(5)
    with torch.no_grad():
        for name, weight in net_.named_parameters():
            if "norm" in name and name.endswith("weight"):
                drawn = draws.uniform(0.5, 1.5, weight.shape)
            elif weight.ndim == 2 and name not in ("places", "begin.weight"):
                drawn = draws.normal(0, weight.shape[1] ** -0.5, weight.shape)
            else:
                drawn = draws.normal(0, 1.0 if name == "begin.weight" else 0.3, weight.shape)
            weight.copy_(torch.from_numpy(drawn))
        for change in changes:
            change(net_)
    return net_


def values(modality: Modality, seed: int = 2) -> Tensor:
    """Return two images or captions, each twice: the two targets have opposite signs for them."""
    draws = np.random.default_rng(seed)
    if modality == "image":
        drawn = torch.from_numpy(draws.normal(0, 1, (BATCH // 2, 3, ROWS * PATCH, COLUMNS * PATCH)))
    else:
        drawn = torch.from_numpy(draws.integers(1, 10, (BATCH // 2, UNITS)))
    return torch.cat([drawn, drawn])


def replaced(content: Tensor, unit: int, other: Tensor, by: int) -> Tensor:
    """Return inputs in which one unit has the content of another unit of other inputs."""
    content = content.clone()
    _content(content, unit).copy_(_content(other, by))
    return content


def _content(content: Tensor, unit: int) -> Tensor:
    """Return the pixels, or the id, of a unit."""
    if content.ndim == 2:
        return content[:, unit]
    top, left = PATCH * (unit // COLUMNS), PATCH * (unit % COLUMNS)
    return content[..., top : top + PATCH, left : left + PATCH]


def alike(modality: Modality) -> Tensor:
    """Return inputs in which two units have the same content."""
    return replaced(values(modality), ALIKE[1], values(modality), ALIKE[0])


def _opposite(seed: int) -> Tensor:
    """Return an embedding of the other side and its negative, each for two items."""
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, 5))
    return torch.stack([drawn, drawn, -drawn, -drawn])


def target(embedding: Embedding) -> Tensor:
    return CosineSimilarity()(embedding, _opposite(3))


def other_target(embedding: Embedding) -> Tensor:
    return CosineSimilarity()(embedding, _opposite(4))


@cache
def side(
    modality: Modality,
    *changes: Change,
    norm: bool = True,
    make: Callable[[Modality], Tensor] = values,
    score: Score = target,
) -> Side:
    """Return one side of a few pairs."""
    image = SmallImage(net("image", norm, *(changes if modality == "image" else ())))
    text = SmallText(net("text", norm, *(changes if modality == "text" else ())))
    model = Model("axioms", "axioms", image.root, image, text, 1.0)
    words = tuple(Word(f"w{place}", (place,)) for place in range(UNITS))
    units = Words((tuple(word.text for word in words),) * BATCH, (words,) * BATCH, torch.ones(BATCH, UNITS) > 0)
    inputs = Inputs(make(modality), words=units if modality == "text" else None)
    return Side(model, model.tower(modality).trace(inputs), score)


# The same function, and the same states between blocks


def _random(place: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng((5, place)).normal(0, 1, shape))


def _matrix(place: int, size: int) -> Tensor:
    """Return an invertible matrix that does more than rotate or scale."""
    return torch.eye(size, dtype=torch.double) + 0.5 * _random(place, size, size) / size**0.5


def _after(part: nn.Linear, turn: Tensor) -> None:
    """Multiply the output of a layer by a matrix from the right."""
    part.weight.copy_(turn.T @ part.weight)
    part.bias.copy_(part.bias @ turn)


def _before(part: nn.Linear, turn: Tensor) -> None:
    """Adapt a layer to inputs that are multiplied by this matrix."""
    part.weight.copy_(part.weight @ torch.linalg.inv(turn).T)


def channels_permuted(net_: Net) -> None:
    order = torch.eye(2 * WIDTH, dtype=torch.double).roll(5, 0)
    for one in net_.blocks:
        _after(one.up, order)
        _before(one.down, order)


def heads_permuted(net_: Net) -> None:
    order = torch.eye(WIDTH, dtype=torch.double).roll(HEAD, 0)
    for one in net_.blocks:
        for part in (one.query, one.key, one.value):
            _after(part, order)
        _before(one.out, order)


def _within_heads(place: int) -> Tensor:
    return torch.block_diag(*(_matrix(HEADS * place + head, HEAD) for head in range(HEADS)))


def queries_and_keys_multiplied(net_: Net) -> None:
    """Multiply each head by a matrix of its own; the products stay the same."""
    for place, one in enumerate(net_.blocks):
        _after(one.query, _within_heads(place))
        _after(one.key, torch.linalg.inv(_within_heads(place)).T)


def values_and_outputs_multiplied(net_: Net) -> None:
    for place, one in enumerate(net_.blocks):
        _after(one.value, _within_heads(place))
        _before(one.out, _within_heads(place))


def keys_shifted(net_: Net) -> None:
    """Shift the keys: a softmax is invariant to a constant that is added to all logits."""
    for place, one in enumerate(net_.blocks):
        one.key.bias += _random(place, WIDTH)


def values_shifted(net_: Net) -> None:
    """Shift the values: the weights sum to 1, so the shift is added to the output, where it is subtracted."""
    for place, one in enumerate(net_.blocks):
        one.value.bias += _random(place, WIDTH)
        one.out.bias -= one.out.weight @ _random(place, WIDTH)


def head_unread(net_: Net) -> None:
    """Disconnect the last head of each block. This changes the function; the next change starts from it."""
    for one in net_.blocks:
        one.out.weight[:, -HEAD:] = 0.0


def unread_head_looks_elsewhere(net_: Net) -> None:
    head_unread(net_)
    for place, one in enumerate(net_.blocks):
        one.query.weight[-HEAD:] += _random(place, HEAD, WIDTH)


INSIDE: dict[str, tuple[tuple[Change, ...], Change]] = {
    "channels permuted": ((), channels_permuted),
    "heads permuted": ((), heads_permuted),
    "queries and keys multiplied": ((), queries_and_keys_multiplied),
    "values and outputs multiplied": ((), values_and_outputs_multiplied),
    "keys shifted": ((), keys_shifted),
    "values shifted": ((), values_shifted),
    "unread head": ((head_unread,), unread_head_looks_elsewhere),
}
"""Pairs of towers, by their difference."""


def all_inside(net_: Net) -> None:
    """Apply all changes at once, starting from a disconnected head."""
    for _, change in reversed(INSIDE.values()):
        change(net_)


# The same function, and other states


def stream_multiplied(net_: Net) -> None:
    """Multiply the stream by a matrix everywhere; without norms the projections compensate for it."""
    turn = _matrix(0, WIDTH)
    for part in net_.readers:
        _before(part, turn)
    for part in net_.writers:
        _after(part, turn)
    net_.places.copy_(net_.places @ turn)
    if isinstance(net_.begin, nn.Embedding):
        net_.begin.weight.copy_(net_.begin.weight @ turn)
    else:
        _after(net_.begin[-1], turn)


def stream_shifted(net_: Net) -> None:
    """Add the same vector to the content of each row, and so to every state; the biases subtract it."""
    first = net_.begin.weight if isinstance(net_.begin, nn.Embedding) else net_.begin[-1].bias
    first += _random(0, WIDTH)
    for part in net_.readers:
        part.bias -= part.weight @ _random(0, WIDTH)


def first_block_idle(net_: Net) -> None:
    """Make the first block nearly idle: with an attention of exactly zero, nibt could not say which rows are read."""
    for part in (net_.blocks[0].out, net_.blocks[0].down):
        part.weight *= 1e-12
        part.bias *= 1e-12


def last_block_idle(net_: Net) -> None:
    """Move the work of each block to the block before it."""
    first_block_idle(net_)
    net_.blocks = nn.ModuleList([*net_.blocks[1:], net_.blocks[0]])


# Ignored units, and equal units


def row_ignored(net_: Net) -> None:
    """Mask the ignored row in every block and in the head."""
    for one in net_.blocks:
        one.seen[IGNORED] = False
    net_.reads[IGNORED] = 0.0
    net_.reads /= net_.reads.sum()


def content_ignored(net_: Net) -> None:
    """Keep the ignored row with its position, but without its content."""
    net_.gate[IGNORED] = 0.0


def places_alike(net_: Net) -> None:
    net_.places[ALIKE[1]] = net_.places[ALIKE[0]]
