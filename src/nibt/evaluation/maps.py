"""Maps of many pairs as NumPy arrays, and their similarities, as in Adebayo et al. (2018)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np

from nibt.data.images import Region
from nibt.data.pair import Pair
from nibt.engine.batches import BatchCache, explain_batches
from nibt.engine.spec import Request, resolve
from nibt.errors import BadOption, Unsupported
from nibt.evaluation import CONTROLS
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.options import Keywords
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import MethodSpec
from nibt.types import Modality

_WINDOW = 5


@dataclass(frozen=True)
class Map:
    """The signed scores of patches (row, column) with their region, or of words (word) with their texts."""

    scores: np.ndarray
    words: tuple[str, ...] = ()
    region: Region | None = None


def named_methods(methods: str | Sequence[str], needed_by: str) -> list[MethodSpec]:
    """Return methods by their names, each once; they may have a variant, but no options."""
    names = [methods] if isinstance(methods, str) or not isinstance(methods, Iterable) else methods
    for name in names:
        if not isinstance(name, str):
            raise BadOption(
                f"methods of {needed_by} must be names, since results are stored under them (got {name!r:.100})"
            )

    specs = {name: MethodSpec.parse(name) for name in names}
    for name, spec in specs.items():
        if spec.options:  # results are stored under the names
            raise BadOption(f"methods of {needed_by} take no options (got {name!r}): name a method, or a variant of it")

    return list(specs.values())


def with_controls(methods: Sequence[MethodSpec]) -> list[MethodSpec]:
    """Return the methods, followed by the controls that are not among them."""
    return [*methods, *(MethodSpec(name) for name in CONTROLS if MethodSpec(name) not in methods)]


def maps(
    model: Model,
    pairs: Sequence[Pair],
    method: MethodSpec,
    side: Modality,
    seed: int | None,
    batch_size: int = 16,
    cache: BatchCache | None = None,
    batches: Sequence[Sequence[int]] | None = None,
) -> list[Map]:
    """Compute the map of one side of each pair, for the target ``cosine``, perhaps in given batches."""
    # a request without a seed where it has no effect, as measure makes it, so that both share the map
    spec = resolve(model, Request(method, seed=seed if method.is_random else None))
    position = spec.modalities.index(side)
    by_index: dict[int, Map] = {}
    for batch in explain_batches(spec, pairs, batch_size, [side], cache, batches):
        attribution = batch.attributions[position]
        inputs = batch.sides[position].inputs
        assert attribution is not None
        attribution = attribution.to("cpu")
        for row, index in enumerate(batch.indices):
            if inputs.words is None:
                by_index[index] = Map(attribution[row].grid.double().numpy(), region=inputs.regions[row])
                continue

            words = inputs.words.words[row]
            scores = attribution[row].scores.double().numpy()
            sums = np.array([scores[list(word.tokens)].sum() for word in words])
            by_index[index] = Map(sums, tuple(word.text for word in words))

    return [by_index[index] for index in range(len(pairs))]


def raw_scores(
    model: Model,
    pairs: Sequence[Pair],
    method: MethodSpec,
    seed: int,
    batch_size: int,
    on_progress: OnProgress = no_progress,
) -> dict[Modality, list[np.ndarray]]:
    """Compute the signed scores of both sides of each pair, for the target ``cosine``."""
    spec = resolve(model, Request(method, seed=seed))
    scores: dict[Modality, dict[int, np.ndarray]] = {side: {} for side in SIDES}
    for batch in explain_batches(spec, pairs, batch_size):
        for side, attributions in zip(spec.modalities, batch.attributions, strict=True):
            assert attributions is not None
            attributions = attributions.to("cpu")
            for row, index in enumerate(batch.indices):
                computed = attributions[row]
                units = computed.grid if side == "image" else computed.scores[~computed.special.cpu()]
                scores[side][index] = units.detach().numpy()
        on_progress(Progress(len(scores["image"]), len(pairs)))

    if not all(np.isfinite(grid).all() for by_index in scores.values() for grid in by_index.values()):
        raise Unsupported(f"the maps of {method} are not finite for this model: leave it out, or use another variant")
    return {side: [by_index[index] for index in range(len(pairs))] for side, by_index in scores.items()}


def without_mean_states(model: Model, method: MethodSpec, side: Modality) -> MethodSpec:
    """Return the method, with the baseline ``blank`` instead of mean states, which are valid for one model only."""
    baseline = getattr(resolve(model, Request(method, seed=0)).methods[side], "baseline", "")
    options: Keywords = {f"{side}_baseline": "blank"} if str(baseline).startswith("mean") else {}
    return replace(method, options={**method.options, **options})


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Return Spearman's correlation of two maps: 1 if equal, 0 if one is constant, NaN for fewer than three units."""
    first = first.ravel()
    second = second.ravel()
    if first.size < 3:
        return float("nan")
    if np.array_equal(first, second):
        return 1.0
    if not (np.ptp(first) and np.ptp(second)):
        return float(np.ptp(first) == np.ptp(second))
    return float(import_module("scipy.stats").spearmanr(first, second).statistic)


def ssim(first: np.ndarray, second: np.ndarray) -> float:
    """Return the structural similarity of two maps, rescaled to [0, 1], in windows of 5 or 3; NaN below 3 x 3."""
    if min(first.shape) < 3:
        return float("nan")
    window = min(_WINDOW, min(first.shape) - (min(first.shape) + 1) % 2)
    measure = import_module("skimage.metrics").structural_similarity
    return float(measure(_rescaled(first), _rescaled(second), win_size=window, data_range=1.0))


def _rescaled(values: np.ndarray) -> np.ndarray:
    span = np.ptp(values)
    return (values - values.min()) / span if span else np.zeros_like(values)
