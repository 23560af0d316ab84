"""ROAR+: remove the units with the highest scores, train again, and measure the increase of the loss.

This is the protocol of the papers of M2IB and NIB, after ROAR (Hooker et al., 2019). To reduce the cost, training may
use cached features or only the last blocks. Runs are resumable. ``docs/guides/roar.md`` describes the protocol.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nibt.data.pair import GivenPair, image_text_pairs
from nibt.engine.spec import Request, resolve
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation.maps import named_methods, with_controls
from nibt.evaluation.roar.run import RoarFolder, RoarPlan, RoarRun
from nibt.evaluation.roar.settings import (
    LEAST_PAIRS,
    REMOVALS,
    TRAINABLES,
    Settings,
    check_used,
    checked_names,
    learning_rates,
)
from nibt.io import read_path
from nibt.methods.base import SIDES
from nibt.models._loading import ModelSource, load_model
from nibt.options import Repeats, check_facts, parsed
from nibt.progress import OnProgress, reporter
from nibt.registry import find
from nibt.results.roar import Roar
from nibt.torch_modes import plain_torch


@plain_torch()
def roar(
    model: ModelSource,
    pairs: Sequence[GivenPair],
    methods: str | Sequence[str] = "nib",
    *,
    out: str | Path,
    trainable: str | Iterable[str] = "features",
    side: str | Iterable[str] = REMOVALS,
    repeats: int = 3,
    learning_rate: float | Mapping[str, float] | None = None,
    data: Mapping[str, object] | None = None,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> Roar:
    """Measure the increase of the loss after training on pairs without the units that each method scores highest.

    A run is resumable, with the same bits. Methods, trainables and repeats may be added to it. The model is not
    changed: copies are trained.

    Args:
        model: A loaded model in float32, or what ``load_model`` takes.
        pairs: Pairs of an image and a caption, or tuples of both.
        methods: Names of methods, with or without a variant (``nib:paper``). ``random``, ``center`` and ``ones`` are
            always included as negative controls.
        out: The folder of the run.
        trainable: What is trained, one or several of "features" (a linear map on the cached embeddings of each side),
            "last" (the last blocks and the heads, from cached hidden states) and "whole" (both towers).
        side: The side whose units are removed, one or several of "image", "text" and "both".
        repeats: The number of repeats, each with another split and order of the pairs.
        learning_rate: Adam's learning rate, for all trainables or by name.
        data: The origin of the pairs, which is saved with the result.
        on_progress: Called before each training with the number of trainings that are done.
        **settings: The fields of ``nibt.evaluation.roar.settings.Settings``.

    Returns:
        The loss increases of the methods, and the agreement between trainables.

    Raises:
        BadInput: There are fewer than 10 pairs.
        OtherRequest: The folder has a run with other settings, another model or other pairs.
        BadOption: An option has an invalid value, or training diverged.
        UnknownName: No method, variant or option has that name.
        Unsupported: The model is not in float32, or it lacks what a method needs.
    """
    report = reporter(on_progress)
    folder = read_path("out", out)
    named = named_methods(methods, "roar")
    check_facts("data", data)
    trainables = checked_names("trainable", trainable, TRAINABLES)
    removals = checked_names("side", side, REMOVALS)
    checked = Settings.of(learning_rates=learning_rates(learning_rate, trainables), **settings)
    if not RoarFolder(folder).is_begun:  # whose settings are those of all its trainings, also of others
        check_used(settings, trainable=trainables, side=removals)
    repeats = parsed("repeats", repeats, Repeats)
    for spec in named:
        for missing in (name for name in SIDES if name not in find("methods", spec.name).sides):
            raise BadOption(
                f"methods must explain both sides ({spec} does not explain the {missing} side): leave it out"
            )

    pairs = image_text_pairs(pairs, "roar")
    if len(pairs) < LEAST_PAIRS:
        raise BadInput(
            f"ROAR needs at least {LEAST_PAIRS} pairs, for training and validation (got {len(pairs)}): give more"
        )
    if min(len({pair.image.digest for pair in pairs}), len({pair.caption for pair in pairs})) < 2:
        raise BadInput("ROAR trains a model to tell pairs apart: give pairs with several images and several captions")

    model = load_model(model)
    if (weights := model.quantization or model.dtype) != "float32":
        raise Unsupported(f"model must be in float32 to be trained (got {weights}): load it with dtype='float32'")

    specs = with_controls(named)
    for spec in specs:
        resolve(model, Request(spec, seed=checked.seed))  # fail before a computation starts
    plan = RoarPlan(specs, trainables, removals, repeats)
    run = RoarRun(model, pairs, plan=plan, settings=checked, out=folder, data=data or {"pairs": len(pairs)})
    run.run(report)
    return run.result()
