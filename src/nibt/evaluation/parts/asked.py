"""A request for parts of images or of captions: what is asked is checked once, before anything is computed."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nibt.data.pair import Pair, image_text_pairs, pairs_hash
from nibt.engine.spec import Request, resolve
from nibt.evaluation.finished import FinishedWork
from nibt.evaluation.maps import Map, maps
from nibt.evaluation.parts.effects import donors_of
from nibt.evaluation.parts.found import DEPTH, default_count
from nibt.evaluation.parts.stored import stored_maps
from nibt.evaluation.shared import KeptEmbeddings, SharedWork
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import BatchSize, Layer, PartCount, Seed, check_facts, parsed
from nibt.progress import OnProgress, Progress
from nibt.records import JsonObject
from nibt.registry import MethodSpec
from nibt.results.explanation import Explanation
from nibt.results.parts import parts_request
from nibt.types import Modality

_TOGETHER = 256  # pairs whose maps are kept together
_WORDS: dict[Modality, tuple[str, str]] = {
    "image": ("cells", "parts of evidence"),
    "text": ("words of captions", "parts of captions"),
}
"""What is exchanged, and what is asked for, in errors."""


@dataclass(frozen=True, eq=False)
class AskedParts:
    """What is asked for parts of one side of pairs.

    Attributes:
        model: The model.
        pairs: The pairs.
        side: The side whose parts are asked for.
        method: The method of the maps.
        method_name: Its name or, of maps that were computed before, that of theirs.
        known_maps: Maps that were computed before; None if they are to be computed.
        layer: The layer of the tower whose hidden states describe cells or words.
        count: The number of clusters.
        seed: The seed of all random draws.
        batch_size: The largest number of pairs that go through the model together.
        data: The origin of the pairs.
        versions: The versions of packages.
        request: What is asked as plain data.
    """

    model: Model
    pairs: Sequence[Pair]
    side: Modality
    method: MethodSpec
    method_name: str
    known_maps: list[Map] | None
    layer: int
    count: int
    seed: int
    batch_size: int
    data: JsonObject
    versions: Mapping[str, str]
    request: JsonObject

    def maps(self, finished: FinishedWork) -> list[Map]:
        """Return the maps of the side, some at a time, which are kept.

        The other side is encoded once for all pairs, as an audit does: so both have the same bits.
        """
        if self.known_maps is not None:
            return self.known_maps

        shared = SharedWork(self.model, KeptEmbeddings(self.model), 0)
        kept: list[Map] = []
        for first in range(0, len(self.pairs), _TOGETHER):
            some = self.pairs[first : first + _TOGETHER]
            compute = partial(self._computed, some, shared)
            kept += finished.maps(f"maps from pair {first}", compute)

        return kept

    def _computed(self, pairs: Sequence[Pair], shared: SharedWork) -> list[Map]:
        """Compute the maps of some pairs."""
        if self.side == "image":
            shared.embeddings.of("text", [pair.caption for pair in self.pairs])
        else:
            shared.embeddings.of("image", [pair.image for pair in self.pairs])
        return maps(self.model, pairs, self.method, self.side, self.seed, self.batch_size, shared)


def asked_parts(
    kind: str,
    side: Modality,
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    method: str | MethodSpec | Method,
    *,
    layer: int | None,
    count: int | None,
    most: int,
    explanations: Sequence[Explanation] | None,
    seed: int,
    batch_size: int,
    data: Mapping[str, Any] | None,
) -> AskedParts:
    """Check what is asked, and load the model.

    Args:
        kind: The kind of the result, which is also the name of the function that was called.
        side: The side whose parts are asked for.
        model: The model, or what ``load_model`` takes.
        pairs: Pairs, or tuples of an image and a caption.
        method: The method of the maps.
        layer: The layer; None means two thirds of the depth of the tower.
        count: The number of clusters; None means one per 10 pairs, but at least 2.
        most: The largest number of clusters if none is given.
        explanations: Explanations whose maps are used.
        seed: The seed of all random draws.
        batch_size: The largest number of pairs that go through the model together.
        data: The origin of the pairs.
    """
    check_facts("data", data)
    seed = parsed("seed", seed, Seed)
    batch_size = parsed("batch_size", batch_size, BatchSize)
    count = parsed("count", count, PartCount | None)
    layer = parsed("layer", layer, Layer | None)
    pairs = image_text_pairs(pairs, kind)
    count = min(most, default_count(len(pairs))) if count is None else count
    exchanged, owner = _WORDS[side]
    donors_of(pairs, kind, exchanged)  # an error before anything is computed

    model = load_model(model).renewed()
    tower = model.tower(side)
    tower.check_states(owner)  # before the method, whose error would name others in vain
    layer = tower.relative(DEPTH) if layer is None else layer
    tower.check_layer(layer)

    spec = MethodSpec.of(method)
    provenance = resolve(model, Request(spec, seed=seed)).provenance
    method_name = str(spec)
    known_maps = None
    if explanations is not None:
        known_maps, method_name = stored_maps(model, pairs, explanations, side)

    data = {**(data or {}), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
    return AskedParts(
        model=model,
        pairs=pairs,
        side=side,
        method=spec,
        method_name=method_name,
        known_maps=known_maps,
        layer=layer,
        count=count,
        seed=seed,
        batch_size=batch_size,
        data=data,
        versions=provenance["versions"],
        request=parts_request(kind, provenance["model"], data, method_name, layer, seed, count),
    )


def on_steps(report: OnProgress, total: int) -> Callable[[str], None]:
    """Return the function that reports the beginning of each of so many steps."""
    begun = itertools.count()

    def on_step(step: str) -> None:
        report(Progress(next(begun), total, step))

    return on_step
