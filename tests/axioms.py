"""The axioms of attribution, as numbers: how badly a method breaks each of them, relative to its largest score.

Every axiom says what two towers, two inputs or two targets that are alike in a certain way must have in common. The
towers are made here, small and in double precision, so that they are alike for certain, and nothing is blamed on
rounding. None of their rows is special (no class, start or end token): all of a map is seen. Weights are drawn by
numpy, whose numbers are the same everywhere. ``python tests/axioms.py`` prints the table of docs/methods.md.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nibt.methods.base import SIDES, Method
from nibt.methods.base_path import along_path
from nibt.models.base import ImageTower, Inputs, Model, TextTower, Tower
from nibt.preparation.captions import Tokens
from nibt.registry import available, find
from nibt.side import Side
from nibt.targets.base import cosine
from nibt.types import Embedding, Modality
from nibt.units import Grid, Units, Word, Words

WIDTH, HEADS, DEPTH, PATCH, ROWS, COLUMNS, BATCH = 12, 3, 6, 4, 2, 3, 4
UNITS, ALIKE, IGNORED = ROWS * COLUMNS, (1, 3), 2
NODES = 32
KEPT, BROKEN = 1e-4, 1e-3
"""A violation up to the first is rounding, one above the second is none; what lies between is an error."""
NEARLY, FAR = 1e-2, 5e-2
"""The same for completeness, since an integral is a sum here, of that many nodes."""

# ------------------------------------------------------------------------------------------------------ the towers


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
        parts = [part(inner).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)]
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

    @property
    def blocks(self) -> list[nn.Module]:
        return list(self.root.blocks)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root(inputs.values)

    def head(self, stream: Tensor, read: dict[str, Tensor]) -> Embedding:
        return self.root.end(stream)


class SmallImage(_Small, ImageTower):
    def __init__(self, root: Net) -> None:
        super().__init__()
        self.root = root

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(ROWS, COLUMNS)


class SmallText(_Small, TextTower):
    """Captions of six words, none of them special; the id 0 pads."""

    pad = (0, "<pad>")

    def __init__(self, root: Net) -> None:
        super().__init__()
        self.root = root

    @property
    def embedder(self) -> nn.Module:
        return self.root.begin

    def group(self, item: Any) -> Hashable:
        return None

    def tokens(self, caption: str) -> Tokens:
        raise NotImplementedError


Change = Callable[[Net], None]
Score = Callable[[Embedding], Tensor]


def net(modality: Modality, norm: bool, changes: Sequence[Change] = ()) -> Net:
    """A net whose weights are drawn, and then changed."""
    made, draws = Net(modality, norm).double().eval(), np.random.default_rng(1)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "norm" in name and name.endswith("weight"):
                drawn = draws.uniform(0.5, 1.5, weight.shape)
            elif weight.ndim == 2 and name not in ("places", "begin.weight"):
                drawn = draws.normal(0, weight.shape[1] ** -0.5, weight.shape)
            else:
                drawn = draws.normal(0, 1.0 if name == "begin.weight" else 0.3, weight.shape)
            weight.copy_(torch.from_numpy(drawn))
        for change in changes:
            change(made)
    return made


def values(modality: Modality, seed: int = 2) -> Tensor:
    """Two pictures or captions, each twice: what speaks for the one target speaks against the other."""
    draws = np.random.default_rng(seed)
    if modality == "image":
        drawn = torch.from_numpy(draws.normal(0, 1, (BATCH // 2, 3, ROWS * PATCH, COLUMNS * PATCH)))
    else:
        drawn = torch.from_numpy(draws.integers(1, 10, (BATCH // 2, UNITS)))
    return torch.cat([drawn, drawn])


def replaced(given: Tensor, unit: int, other: Tensor, by: int) -> Tensor:
    """Inputs whose one unit has the content that another unit has in other inputs."""
    given = given.clone()
    _content(given, unit).copy_(_content(other, by))
    return given


def _content(given: Tensor, unit: int) -> Tensor:
    """The pixels, or the id, of a unit."""
    if given.ndim == 2:
        return given[:, unit]
    top, left = PATCH * (unit // COLUMNS), PATCH * (unit % COLUMNS)
    return given[..., top : top + PATCH, left : left + PATCH]


def there(seed: int) -> Tensor:
    """An embedding of the other side, and its opposite, each for two items."""
    drawn = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, 5))
    return torch.stack([drawn, drawn, -drawn, -drawn])


def first_target(embedding: Embedding) -> Tensor:
    return cosine(embedding, there(3))


def second_target(embedding: Embedding) -> Tensor:
    return cosine(embedding, there(4))


ONE, TWO = 0.7, -1.6


def both_targets(embedding: Embedding) -> Tensor:
    return ONE * first_target(embedding) + TWO * second_target(embedding)


def shifted_target(embedding: Embedding) -> Tensor:
    return first_target(embedding) + 0.5


@cache
def side(
    modality: Modality, *changes: Change, norm: bool = True, make: Callable[[Modality], Tensor] = values,
    score: Score = first_target,
) -> Side:  # fmt: skip
    """One side of a few pairs."""
    image = SmallImage(net("image", norm, changes if modality == "image" else ()))
    text = SmallText(net("text", norm, changes if modality == "text" else ()))
    model = Model("axioms", "axioms", image.root, image, text, 1.0)
    words = tuple(Word(f"w{place}", (place,)) for place in range(UNITS))
    told = Words((tuple(word.text for word in words),) * BATCH, (words,) * BATCH, torch.ones(BATCH, UNITS) > 0)
    tower = model.tower(modality)
    return Side(model, tower.trace(Inputs(make(modality), words=told if modality == "text" else None)), score)


# --------------------------------------------------------------- other parameters that make the same function


def _random(place: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng((5, place)).normal(0, 1, shape))


def _matrix(place: int, size: int) -> Tensor:
    """One that can be inverted, and neither turns nor stretches only."""
    return torch.eye(size, dtype=torch.double) + 0.5 * _random(place, size, size) / size**0.5


def _within_heads(place: int) -> Tensor:
    return torch.block_diag(*(_matrix(place + head, WIDTH // HEADS) for head in range(HEADS)))


def _after(part: nn.Linear, turn: Tensor) -> None:
    """What the part gives, times a matrix from the right."""
    part.weight.copy_(turn.T @ part.weight)
    part.bias.copy_(part.bias @ turn)


def _before(part: nn.Linear, turn: Tensor) -> None:
    """The part as it takes what was multiplied so."""
    part.weight.copy_(part.weight @ torch.linalg.inv(turn).T)


def channels_permuted(made: Net) -> None:
    for one in made.blocks:
        order = torch.arange(2 * WIDTH).roll(5)
        one.up.weight.copy_(one.up.weight[order])
        one.up.bias.copy_(one.up.bias[order])
        one.down.weight.copy_(one.down.weight[:, order])


def heads_permuted(made: Net) -> None:
    order = torch.arange(WIDTH).roll(WIDTH // HEADS)
    for one in made.blocks:
        for part in (one.query, one.key, one.value):
            part.weight.copy_(part.weight[order])
            part.bias.copy_(part.bias[order])
        one.out.weight.copy_(one.out.weight[:, order])


def queries_and_keys_scaled(made: Net) -> None:
    """Each head by its own matrix; the products stay."""
    for place, one in enumerate(made.blocks):
        turn = _within_heads(10 * place)
        _after(one.query, turn)
        _after(one.key, torch.linalg.inv(turn).T)


def values_and_outputs_scaled(made: Net) -> None:
    for place, one in enumerate(made.blocks):
        turn = _within_heads(10 * place)
        _after(one.value, turn)
        _before(one.out, turn)


def keys_shifted(made: Net) -> None:
    """A softmax does not feel what is added to all of its logits."""
    for place, one in enumerate(made.blocks):
        one.key.bias += _random(place, WIDTH)


def values_shifted(made: Net) -> None:
    """Weights add up to one, so what is added to all values comes out whole, and is taken off again."""
    for place, one in enumerate(made.blocks):
        shift = _random(place, WIDTH)
        one.value.bias += shift
        one.out.bias -= one.out.weight @ shift


def last_head_deaf(made: Net) -> None:
    """Nothing reads the last head of any block: that is another function, and the start of the next change."""
    for one in made.blocks:
        one.out.weight[:, -WIDTH // HEADS :] = 0.0


def deaf_head_looks_elsewhere(made: Net) -> None:
    last_head_deaf(made)
    for place, one in enumerate(made.blocks):
        one.query.weight[-WIDTH // HEADS :] += _random(place, WIDTH // HEADS, WIDTH)


INSIDE: dict[str, Change] = {
    "channels permuted": channels_permuted, "heads permuted": heads_permuted,
    "queries and keys scaled": queries_and_keys_scaled, "values and outputs scaled": values_and_outputs_scaled,
    "keys shifted": keys_shifted, "values shifted": values_shifted, "deaf head": deaf_head_looks_elsewhere,
}  # fmt: skip
"""What leaves every hidden state between blocks as it is."""


def stream_multiplied(made: Net) -> None:
    """The stream times a matrix, everywhere; without norms the projections make up for it."""
    turn = _matrix(0, WIDTH)
    for part in made.readers:
        _before(part, turn)
    for part in made.writers:
        _after(part, turn)
    made.places.copy_(made.places @ turn)
    if isinstance(made.begin, nn.Embedding):
        made.begin.weight.copy_(made.begin.weight @ turn)
    else:
        _after(made.begin[-1], turn)


def stream_shifted(made: Net) -> None:
    """The same vector added to the content of each row, and so to every state; the biases take it off again."""
    shift = _random(0, WIDTH)
    first = made.begin.weight if isinstance(made.begin, nn.Embedding) else made.begin[-1].bias
    first += shift
    for part in made.readers:
        part.bias -= part.weight @ shift


def _idle(made: Net) -> None:
    """All but: of a last attention that gives nothing at all, no row would be read."""
    for part in (made.blocks[0].out, made.blocks[0].down):
        part.weight *= 1e-12
        part.bias *= 1e-12


def first_block_idle(made: Net) -> None:
    _idle(made)


def last_block_idle(made: Net) -> None:
    """The same work, done one block sooner each."""
    _idle(made)
    made.blocks = nn.ModuleList([*made.blocks[1:], made.blocks[0]])


# ------------------------------------------------------------------------------------------------------ the methods


@dataclass(frozen=True)
class Asked:
    """A method with its options, as a line of the table."""

    name: str
    variant: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)
    along: bool = False

    def method(self, tower: Tower) -> Method:
        kind = along_path(self.name) if self.along else find("methods", self.name)
        return kind.configured(tower, self.variant, self.options, {})

    def scores(self, of: Side) -> Tensor:
        """A number for each of the units; finer maps are averaged over them."""
        found = self.method(of.tower)(of)
        scores = found.scores.double()
        if scores.shape[1] != UNITS:
            scores = F.adaptive_avg_pool2d(found.grid.double(), (ROWS, COLUMNS)).flatten(1)
        return scores


QUICK: dict[str, dict[str, Any]] = {"nib": {"steps": NODES}, "integrated_gradients": {"steps": NODES},
                                    "rise": {"masks": 64}}  # fmt: skip
MORE = {
    "nib, layer 0": Asked("nib", options={"steps": NODES, "layer": 0}),
    "nib, zero, geometric": Asked("nib", options={"steps": NODES, "reference": "zero", "rule": "geometric"}),
    "grad_cam, along path": Asked("grad_cam", options={"steps": NODES}, along=True),
    "shapley, sampled": Asked("shapley", options={"budget": 24}),
}
BLIND = ("centre", "ones", "random", "rollout")
"""Methods that do not look at the score, so that no difference of scores can be asked of them."""


@cache
def lines() -> dict[str, Asked]:
    """Every method, and every variant that is another method than its default."""
    found = {}
    for name in available("methods"):
        variants = find("methods", name).variants
        found[name] = Asked(name, options=QUICK.get(name, {}))
        for variant, options in variants.items():
            if options != variants["default"]:
                found[f"{name}, {variant}"] = Asked(name, variant)
    return dict(sorted((found | MORE).items()))


# ------------------------------------------------------------------------------------------------------- the axioms


def _apart(first: Tensor, second: Tensor) -> float:
    """The largest difference of two maps, relative to their largest score, over the batch. Rectified maps may be
    zero; if more than half of them are, nothing is proven.
    """
    largest = torch.stack([first, second]).abs().amax((0, 2))
    assert first.any(-1).sum() >= BATCH / 2, "maps of nothing prove nothing"
    return float(((first - second).abs().amax(-1) / largest.clamp_min(1e-30)).max())


def completeness(asked: Asked, modality: Modality) -> float:
    """Do all scores add up to the difference between the score and that of the method's own reference?"""
    of = side(modality)
    options = asked.method(of.tower).options()
    layer = options.get("layer", [None])[0] if "reference" in options else None
    cut = of.stem() if layer is None else of.cut(layer)
    reference = of.reference(options.get("reference", "blank"), layer, cut.hidden)
    low = options["floor"] if options.get("rule") == "geometric" else 0.0
    change = of.value() - of.score_of(cut, reference + low * (cut.hidden - reference))
    return float(((asked.scores(of).sum(-1) - change) / change).abs().max())


def row_cut_off(made: Net) -> None:
    """No row looks at the ignored one, and the head does not read it."""
    for one in made.blocks:
        one.seen[IGNORED] = False
    made.reads[IGNORED] = 0.0
    made.reads /= made.reads.sum()


def content_unread(made: Net) -> None:
    """The ignored row has its place, and takes part, but what stands there does not count."""
    made.gate[IGNORED] = 0.0


def _of_ignored(change: Change, asked: Asked, modality: Modality) -> float:
    """Has a unit nothing, on which the score does not depend?"""
    scores = asked.scores(side(modality, change))
    without = scores.clone()
    without[:, IGNORED] = 0.0
    return _apart(scores, without)


def inside(asked: Asked, modality: Modality) -> float:
    """Is the map the same, whatever happens inside blocks that do the same? The worst of all changes."""
    return max(inside_by(name, asked, modality) for name in INSIDE)


def inside_by(name: str, asked: Asked, modality: Modality) -> float:
    return _between(last_head_deaf if name == "deaf head" else None, INSIDE[name], True, asked, modality)


def _between(first: Change | None, second: Change, norm: bool, asked: Asked, modality: Modality) -> float:
    """Do two nets that are the same function have the same map?"""
    plain = side(modality, *([first] if first else []), norm=norm)
    return _apart(asked.scores(plain), asked.scores(side(modality, second, norm=norm)))


def linearity(asked: Asked, modality: Modality) -> float:
    """Is the map of a sum of scores the sum of the maps?"""
    first, second, both = (
        asked.scores(side(modality, score=score)) for score in (first_target, second_target, both_targets)
    )
    return _apart(ONE * first + TWO * second, both)


def places_alike(made: Net) -> None:
    made.places[ALIKE[1]] = made.places[ALIKE[0]]


def alike(modality: Modality) -> Tensor:
    """Inputs in which two units have the same content."""
    return replaced(values(modality), ALIKE[1], values(modality), ALIKE[0])


def symmetry(asked: Asked, modality: Modality) -> float:
    """Have two units the same score, that have the same content, and enter in the same way?"""
    scores = asked.scores(side(modality, places_alike, make=alike))
    swapped = scores.clone()
    swapped[:, ALIKE] = scores[:, ALIKE[::-1]]
    return _apart(scores, swapped)


def constant(asked: Asked, modality: Modality) -> float:
    """Is the map the same, when a constant is added to the score?"""
    return _apart(asked.scores(side(modality)), asked.scores(side(modality, score=shifted_target)))


AXIOMS: dict[str, Callable[[Asked, Modality], float]] = {
    "complete": completeness,
    "sensitive: row": partial(_of_ignored, row_cut_off),
    "sensitive: content": partial(_of_ignored, content_unread),
    "invariant: blocks": inside,
    "invariant: stream times": partial(_between, None, stream_multiplied, False),
    "invariant: stream plus": partial(_between, None, stream_shifted, False),
    "invariant: depth": partial(_between, first_block_idle, last_block_idle, True),
    "linear": linearity,
    "symmetric": symmetry,
    "constant": constant,
}
NO_MEANING = {("complete", name) for name in (*BLIND, "m2ib")}
"""What is no share of a score (nats, attention alone) has no difference of scores to add up to."""

# -------------------------------------------------------------------------------------------------------- the table


@cache
def violation(line: str, axiom: str, modality: Modality) -> float | None:
    """How badly an axiom is broken; None where it has no meaning."""
    asked = lines()[line]
    return None if (axiom, asked.name) in NO_MEANING else AXIOMS[axiom](asked, modality)


def keeps(line: str, axiom: str, modality: Modality) -> bool | None:
    """Whether it keeps the axiom; None where that has no meaning. A violation that is neither is an error."""
    found, (kept, broken) = violation(line, axiom, modality), (NEARLY, FAR) if axiom == "complete" else (KEPT, BROKEN)
    assert found is None or not kept < found <= broken, f"{line} neither keeps nor breaks {axiom}: {found}"
    return None if found is None else found <= kept


def _cell(line: str, axiom: str) -> str:
    broken = [modality for modality in SIDES if keeps(line, axiom, modality) is False]
    if not broken:
        return "–" if keeps(line, axiom, SIDES[0]) is None else "keeps"
    worst = max(violation(line, axiom, modality) or 0.0 for modality in broken)
    return " ".join([*(broken if len(broken) == 1 else []), f"breaks {worst:.2g}"])


def table() -> str:
    """Methods by axioms, as it stands in docs/methods.md."""
    rows = [["", *AXIOMS], ["---"] * (len(AXIOMS) + 1)]
    rows += [[f"`{line.split(',')[0]}`{line[len(line.split(',')[0]):]}", *(_cell(line, axiom) for axiom in AXIOMS)]
             for line in lines()]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    print(table())
