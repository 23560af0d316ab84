"""An audit: what a model's owner has to know before trusting its maps, as lines with a verdict each.

Each question has a file here. The model is used as it is; what has to become random is a copy of it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from nibt.data.pair import Pair, pairs_hash, require_image_text
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation import CONTROLS
from nibt.evaluation.audit.discrimination import telling
from nibt.evaluation.audit.faithfulness import Measured
from nibt.evaluation.audit.runner import AuditRunner
from nibt.evaluation.audit.thresholds import LEAST_PAIRS
from nibt.methods.base import SIDES, MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model, Tower
from nibt.progress import OnProgress, Progress, no_progress
from nibt.results.audit import Audit, Check
from nibt.torch_modes import plain_torch

STAGES, QUICK_STAGES = 12, 3
LEVELS, QUICK_LEVELS = 10, 5
_TEMPLATES, _QUICK_TEMPLATES = 4, 2


@plain_torch()
def audit(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    methods: str | Sequence[str] = "nib",
    *,
    seed: int = 0,
    quick: bool = False,
    batch_size: int = 16,
    data: Mapping[str, Any] | None = None,
    on_progress: OnProgress = no_progress,
) -> Audit:
    """Audit a model with pairs of images and their right captions: seven questions, a verdict for each line.

    ``methods`` are names, or names with a variant (``nib:paper``). ``quick`` asks of fewer stages of randomisation
    and fewer wordings, draws coarser curves of deletion and insertion, and has the control ``random`` alone. ``data``
    is written down as where the pairs are from. A method costs some 47 explanations of one side of each pair, and each
    method and each of the three controls some 50 forward passes; a copy of the weights is held meanwhile.
    ``on_progress`` is called when a step begins.

    Raises:
        BadInput: There are fewer than 8 pairs, or all have the same caption, or the same image.
        UnknownName: No method or variant has that name.
        Unsupported: A package or something in the model is lacking; or its weights changed meanwhile.

    Examples:
        >>> from nibt.datasets.scenes import Scenes
        >>> audit("scenes", list(Scenes(count=3)))
        Traceback (most recent call last):
        nibt.errors.BadInput: an audit needs at least 8 pairs, for its intervals to mean anything (got 3)

    """
    named = [MethodSpec.parse(name) for name in dict.fromkeys([methods] if isinstance(methods, str) else methods)]
    if not named:
        raise BadOption("name at least one method to audit")
    if seed < 0:
        raise BadOption(f"seed must not be negative (got {seed})")
    if len(pairs) < LEAST_PAIRS:
        raise BadInput(
            f"an audit needs at least {LEAST_PAIRS} pairs, for its intervals to mean anything (got {len(pairs)})"
        )
    started = time.perf_counter()
    pairs = [require_image_text(pair, "audit") for pair in pairs]
    model = load_model(model)
    before = _fresh_hash(model)
    asking = AuditRunner(model, pairs, named, seed, batch_size)
    controls = [MethodSpec(name) for name in CONTROLS[: 1 if quick else None]]
    stages = QUICK_STAGES if quick else STAGES
    steps = _Steps(
        on_progress, 4 + len(controls) + len(named) + sum(_stages(model.tower(side), stages) for side in SIDES)
    )
    checks: list[Check] = []
    steps("the caption, the image")
    checks += asking.other_side()
    steps("the wording")
    checks += asking.wording(_QUICK_TEMPLATES if quick else _TEMPLATES)
    steps("the seed")
    checks += asking.seeds()
    measured = Measured(model, pairs, seed, batch_size, QUICK_LEVELS if quick else LEVELS)
    for asked, control in [
        *((one, True) for one in controls),
        *((one, False) for one in named),
    ]:
        steps(f"the metrics of {asked}")
        measured.add(asked, control)
    for asked in named:
        checks += [*measured.faithful(asked), *measured.artefacts(asked, asking.units)]
    steps("right and wrong captions")
    checks += telling(model, pairs, seed)
    randomised, curves = asking.weights(stages, steps)
    checks += randomised
    if _fresh_hash(model) != before:
        raise Unsupported(f"the weights of {model.id} changed while it was audited: audit a model that is at rest")
    facts = asking.facts
    return Audit(
        facts["model"],
        data or {"pairs": len(pairs), "pairs_hash": pairs_hash(pairs)},
        tuple(map(str, named)),
        seed,
        time.perf_counter() - started,
        facts["versions"],
        tuple(sorted(checks, key=_place)),
        tuple(curves),
        tuple(measured.scores()),
        tuple(asking.examples()),
        tuple(asking.notes),
        quick,
    )


@dataclass
class _Steps:
    """Counts steps as they begin."""

    on_progress: OnProgress
    total: int
    done: int = -1

    def __call__(self, step: str) -> None:
        self.done += 1
        self.on_progress(Progress(self.done, self.total, step))


def _stages(tower: Tower, most: int) -> int:
    """How many stages of randomization a tower has: none, the head, groups of blocks, and the stem."""
    return min(most, tower.depth) + 3


def _place(check: Check) -> tuple[str, int]:
    return check.method or "~", check.question


def _fresh_hash(model: Model) -> str:
    """The hash of the weights as they are now, whatever was remembered."""
    return replace(model, _hashes={}).weights_hash
