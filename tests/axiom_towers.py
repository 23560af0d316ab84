"""Towers that are alike for certain, for the axioms of attribution: other parameters, the same function.

They are small and in double precision, so that nothing is blamed on rounding. None of their rows is special (no class,
start or end token), so all of a map is seen. Numpy draws the weights, and its numbers are the same everywhere.
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
from nibt.models.base import ImageTower, Inputs, Model, TextTower, Tower
from nibt.preprocessing.captions import Tokens
from nibt.targets.base import cosine
from nibt.types import Embedding, Modality

WIDTH, HEADS, DEPTH, PATCH, ROWS, COLUMNS, BATCH = 12, 3, 6, 4, 2, 3, 4
UNITS, HEAD = ROWS * COLUMNS, WIDTH // HEADS
IGNORED, ALIKE = 2, (1, 3)
"""The unit that a tower ignores, and the two that it cannot tell apart; the middle is nearer to the first of them."""


class Block(nn.Module):
    """A transformer's block, with norms before its halves or without any. Rows that are not ``seen`` are masked."""

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
    """Content times ``gate`` plus places, blocks, and a head that averages the rows with the shares ``reads``."""

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
        """What takes the stream."""
        return [part for one in self.blocks for part in (one.query, one.key, one.value, one.up)] + [self.out]

    @property
    def writers(self) -> list[nn.Linear]:
        """What adds to the stream, the first tokens apart."""
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
    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(ROWS, COLUMNS)


class SmallText(_Small, TextTower):
    """Captions of six words; the id 0 pads, and stands in none."""

    pad = (0, "<pad>")

    @property
    def embedder(self) -> nn.Module:
        return self.root.begin

    def group(self, item: Any) -> Hashable:
        return None

    def tokens(self, caption: str) -> Tokens:
        raise NotImplementedError


Change = Callable[[Net], None]
Score = Callable[[Embedding], Tensor]


def net(modality: Modality, norm: bool, *changes: Change) -> Net:
    """A net whose weights are drawn, and then changed."""
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
    """Two images or captions, each twice: what speaks for the one target speaks against the other."""
    draws = np.random.default_rng(seed)
    if modality == "image":
        drawn = torch.from_numpy(draws.normal(0, 1, (BATCH // 2, 3, ROWS * PATCH, COLUMNS * PATCH)))
    else:
        drawn = torch.from_numpy(draws.integers(1, 10, (BATCH // 2, UNITS)))
    return torch.cat([drawn, drawn])


def replaced(content: Tensor, unit: int, other: Tensor, by: int) -> Tensor:
    """Inputs whose one unit has the content that another unit has in other inputs."""
    content = content.clone()
    _content(content, unit).copy_(_content(other, by))
    return content


def _content(content: Tensor, unit: int) -> Tensor:
    """The pixels, or the id, of a unit."""
    if content.ndim == 2:
        return content[:, unit]
    top, left = PATCH * (unit // COLUMNS), PATCH * (unit % COLUMNS)
    return content[..., top : top + PATCH, left : left + PATCH]


def alike(modality: Modality) -> Tensor:
    """Inputs in which two units have the same content."""
    return replaced(values(modality), ALIKE[1], values(modality), ALIKE[0])


def _opposite(seed: int) -> Tensor:
    """An embedding of the other side, and its opposite, each for two items."""
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, 5))
    return torch.stack([drawn, drawn, -drawn, -drawn])


def target(embedding: Embedding) -> Tensor:
    return cosine(embedding, _opposite(3))


def other_target(embedding: Embedding) -> Tensor:
    return cosine(embedding, _opposite(4))


@cache
def side(
    modality: Modality,
    *changes: Change,
    norm: bool = True,
    make: Callable[[Modality], Tensor] = values,
    score: Score = target,
) -> Side:
    """One side of a few pairs."""
    image = SmallImage(net("image", norm, *(changes if modality == "image" else ())))
    text = SmallText(net("text", norm, *(changes if modality == "text" else ())))
    model = Model("axioms", "axioms", image.root, image, text, 1.0)
    words = tuple(Word(f"w{place}", (place,)) for place in range(UNITS))
    units = Words((tuple(word.text for word in words),) * BATCH, (words,) * BATCH, torch.ones(BATCH, UNITS) > 0)
    inputs = Inputs(make(modality), words=units if modality == "text" else None)
    return Side(model, model.tower(modality).trace(inputs), score)


# ------------------------------------------------------------ the same function, and the same states between blocks


def _random(place: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng((5, place)).normal(0, 1, shape))


def _matrix(place: int, size: int) -> Tensor:
    """One that can be inverted, and does more than turn or stretch."""
    return torch.eye(size, dtype=torch.double) + 0.5 * _random(place, size, size) / size**0.5


def _after(part: nn.Linear, turn: Tensor) -> None:
    """What the part gives, times a matrix from the right."""
    part.weight.copy_(turn.T @ part.weight)
    part.bias.copy_(part.bias @ turn)


def _before(part: nn.Linear, turn: Tensor) -> None:
    """The part, as it takes what was multiplied so."""
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
    """Each head's by a matrix of its own; their products stay."""
    for place, one in enumerate(net_.blocks):
        _after(one.query, _within_heads(place))
        _after(one.key, torch.linalg.inv(_within_heads(place)).T)


def values_and_outputs_multiplied(net_: Net) -> None:
    for place, one in enumerate(net_.blocks):
        _after(one.value, _within_heads(place))
        _before(one.out, _within_heads(place))


def keys_shifted(net_: Net) -> None:
    """A softmax does not feel what is added to all of its logits."""
    for place, one in enumerate(net_.blocks):
        one.key.bias += _random(place, WIDTH)


def values_shifted(net_: Net) -> None:
    """Weights add up to one, so what is added to all values comes out whole, and is taken off again."""
    for place, one in enumerate(net_.blocks):
        one.value.bias += _random(place, WIDTH)
        one.out.bias -= one.out.weight @ _random(place, WIDTH)


def head_unread(net_: Net) -> None:
    """Nothing reads the last head of any block. That is another function, where the next change starts from."""
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
"""Pairs of towers, by what was done to them."""


def all_inside(net_: Net) -> None:
    """All of it at once; it starts from a head that is not read."""
    for _, change in reversed(INSIDE.values()):
        change(net_)


# -------------------------------------------------------------------------- the same function, and other states


def stream_multiplied(net_: Net) -> None:
    """The stream times a matrix, everywhere; without norms the projections make up for it."""
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
    """The same vector added to the content of each row, and so to every state; the biases take it off again."""
    first = net_.begin.weight if isinstance(net_.begin, nn.Embedding) else net_.begin[-1].bias
    first += _random(0, WIDTH)
    for part in net_.readers:
        part.bias -= part.weight @ _random(0, WIDTH)


def first_block_idle(net_: Net) -> None:
    """All but idle: of a last attention that gives nothing at all, nibt could not say which rows are read."""
    for part in (net_.blocks[0].out, net_.blocks[0].down):
        part.weight *= 1e-12
        part.bias *= 1e-12


def last_block_idle(net_: Net) -> None:
    """The same work, each piece of it done one block sooner."""
    first_block_idle(net_)
    net_.blocks = nn.ModuleList([*net_.blocks[1:], net_.blocks[0]])


# ---------------------------------------------------------------------------------- units ignored, and units alike


def row_ignored(net_: Net) -> None:
    """No row looks at the ignored one, and the head does not read it."""
    for one in net_.blocks:
        one.seen[IGNORED] = False
    net_.reads[IGNORED] = 0.0
    net_.reads /= net_.reads.sum()


def content_ignored(net_: Net) -> None:
    """The ignored row has its place, and takes part, but what stands there does not count."""
    net_.gate[IGNORED] = 0.0


def places_alike(net_: Net) -> None:
    net_.places[ALIKE[1]] = net_.places[ALIKE[0]]
