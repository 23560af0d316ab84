"""The time of the chunks of a model, estimated before they are measured."""

import time
from collections.abc import Callable, Iterable

from nibt.data.pair import Pair
from nibt.errors import NibtError
from nibt.evaluation import CONTROLS
from nibt.evaluation.bench.cell import CellRunner
from nibt.methods._word_game import word_game


def estimated_seconds(
    counts: Iterable[tuple[CellRunner, int]], pair: Pair | NibtError, clock: Callable[[], float] = time.perf_counter
) -> float | None:
    """Estimate the time of cells from one pair: all metrics with a control, and the passes of each method."""
    cells = list(counts)
    controls = [runner for runner, _ in cells if runner.cell.method.name in CONTROLS]
    if not isinstance(pair, Pair) or not controls:
        return None
    controls[0].rows({0: pair})  # the first call takes several times as long
    start = clock()
    controls[0].rows({0: pair})
    metrics = clock() - start
    forwards: dict[str, tuple[float, int]] = {}
    model = controls[0].model
    for tower, inputs in (
        (model.image, model.image.prepare([pair.image])),
        (model.text, model.text.prepare([pair.caption])),
    ):
        start = clock()
        trace = tower.trace(inputs, lowest=tower.depth)
        units = trace.cut(tower.depth).units
        count = units[0].count
        forwards[tower.modality] = clock() - start, count
    words = model.text.prepare([pair.caption]).words
    coalitions = 1 if words is None else len(word_game(len(words.words[0]))[0])
    return sum(count * (metrics + _method_seconds(runner, forwards, coalitions)) for runner, count in cells)


def _method_seconds(runner: CellRunner, forwards: dict[str, tuple[float, int]], coalitions: int) -> float:
    """Return the time of the forward passes of a method; 0 if its package has no formula of its cost.

    Regions take those of both sides or, if the method is not linear, a map for each coalition of the words.
    """
    try:
        forward_seconds = (
            forwards[side][0]
            * method.forwards(runner.model.tower(side).depth, forwards[side][1])
            * (coalitions if measured == "regions" and not method.linear else 1)
            for measured in runner.sides
            for side, method in runner.spec(measured).methods.items()
            if measured == side or (measured == "regions" and (method.linear or side == "image"))
        )
        return sum(forward_seconds, 0.0)
    except (NibtError, ValueError):
        return 0.0
