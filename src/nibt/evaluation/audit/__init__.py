"""The audit of a model and its explanations: ten questions, answered by checks with a verdict each.

``runner`` answers questions 1 to 4, ``randomization`` changes the weights of a copy of the model for question 1,
``checks`` answers questions 5 to 8, ``evidence`` question 9, and ``parts`` question 10. ``against`` compares two
models.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nibt.data.pair import Pair, image_text_pairs, pairs_hash
from nibt.engine.spec import Request, resolve
from nibt.evaluation import CONTROLS
from nibt.evaluation.audit.against import check_against, compared, too_few
from nibt.evaluation.audit.asked import AskedAudit, check_count, check_unchanged
from nibt.evaluation.audit.checks import MetricScores, discrimination, vocabulary_check
from nibt.evaluation.audit.parts import audited_parts, parts_check
from nibt.evaluation.audit.runner import AuditRunner
from nibt.evaluation.finished import finished_work
from nibt.evaluation.parts.asked import on_steps
from nibt.methods.base import SIDES
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import BatchSize, parsed
from nibt.progress import OnProgress, reporter
from nibt.registry import MethodSpec
from nibt.results.audit import Audit, Check, audit_request
from nibt.results.audit_questions import QUESTION_OF_EVIDENCE, QUESTION_OF_PARTS
from nibt.results.parts import Parts
from nibt.torch_modes import plain_torch

STAGES = 12
QUICK_STAGES = 1
LEVELS = 10
QUICK_LEVELS = 5
_TEMPLATES = 4
_QUICK_TEMPLATES = 2


@plain_torch()
def audit(
    model: ModelSource,
    pairs: Sequence[Pair | tuple[Any, ...]],
    methods: str | Sequence[str] = "nib",
    *,
    against: ModelSource | None = None,
    seed: int = 0,
    quick: bool = False,
    batch_size: int = 16,
    data: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> Audit:
    """Audit a model and its explanations on pairs of images and their right captions.

    The audit has ten questions. Each has checks, and each check has a verdict. A quick audit
    of ``nib`` with ``lite`` costs as much as about 41 forward passes of both towers per pair, besides the everyday
    nouns of question 8 (``benchmarks/speed.py audit``); a whole one costs more. It keeps a copy of the weights in
    memory. The model itself is not changed.

    For question 10, it finds the parts of the images that carry the positive scores, as ``parts`` does, and exchanges
    them between images. It has a verdict if masks or boxes of the named objects are known.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        pairs: Pairs of an image and its right caption, or tuples of both: at least 8, and at least 48 are recommended.
            With fewer than 24, no check of pairs has a verdict, but a part that is a shortcut fails.
        methods: Names of methods, with or without a variant (``nib:paper``).
        against: Another model, such as the one before fine-tuning, which is audited on the same pairs. The result then
            has the differences between both models. This takes twice the time.
        seed: The seed of all random draws.
        quick: Use fewer stages of randomization, fewer wordings, coarser deletion and insertion curves, and only the
            control ``random``, and leave out question 10 and the metrics without a verdict (confidence drop and
            increase).
        batch_size: The largest number of pairs that go through the model together.
        data: The origin of the pairs, which is saved with the result.
        folder: A folder that keeps finished work. If an audit was stopped, the same call with this folder goes on.
            Delete the folder when you do not need it any more.
        on_progress: Called when a step begins.

    Returns:
        The checks, curves, scores of metrics, parts and examples.

    Raises:
        BadInput: There are fewer than 8 pairs, or all have the same caption or the same image; or ``against`` is the
            audited model.
        BadOption: There are no methods, or the seed is negative.
        UnknownName: No method or variant has that name.
        Unsupported: A package is missing, the model lacks what a method needs, or its weights changed during the audit.

    Examples:
        >>> from nibt.datasets.scenes import Scenes
        >>> audit("scenes", list(Scenes(count=3)))
        Traceback (most recent call last):
        nibt.errors.BadInput: an audit needs at least 8 pairs (got 3): with fewer, its intervals are too wide
    """
    report = reporter(on_progress)
    asked = AskedAudit.of(methods, data, seed, quick)
    batch_size = parsed("batch_size", batch_size, BatchSize)
    pairs = image_text_pairs(pairs, "audit")
    check_count(len(pairs), "pairs")

    started = time.perf_counter()
    models = [load_model(model)]
    if against is not None:
        models.append(load_model(against))
    for each in models:
        each.image.check_states("an audit")  # before the method, whose error would name others in vain
    if against is not None:
        check_against(*models)
    controls = [MethodSpec(name) for name in CONTROLS[: 1 if asked.quick else None]]
    total = _count_steps(models, len(controls) + len(asked.methods), asked.quick)
    on_step = on_steps(report, total)

    # a model that lacks what a method needs is an error before the audit begins
    resolved = [resolve(each, Request(method, seed=asked.seed)) for each in models for method in asked.methods]

    hashes = [each.renewed(anew=True).weights_hash for each in models]
    data = {**(data or {}), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
    records = [each.record() for each in models]
    request = {
        **audit_request(records[0], data, asked.names, asked.seed, asked.quick, *records[1:]),
        "pairs": pairs_hash(pairs),
        "versions": resolved[0].provenance["versions"],
    }

    with finished_work(folder, request) as finished:
        runners = []
        for each, role in zip(models, ("audited", "against"), strict=False):
            on_step("the maps")
            runners.append(AuditRunner(each, pairs, asked.methods, asked.seed, batch_size, finished.of_model(role)))
        audits = [_audited(runner, controls, data, asked.quick, on_step) for runner in runners]

    check_unchanged(models, hashes)
    result = audits[0] if against is None else _with_against(audits[0], audits[1], runners)
    return replace(result, seconds=time.perf_counter() - started)


def _count_steps(models: Sequence[Model], methods: int, quick: bool) -> int:
    """Return the number of steps of an audit with so many methods and controls."""
    # of randomization: nothing, the head, the groups of blocks, and the stem
    stages = QUICK_STAGES if quick else STAGES
    randomized = sum(min(stages, model.tower(side).depth) + 3 for model in models for side in SIDES)
    of_parts = 0 if quick else 1
    return (6 + of_parts + methods) * len(models) + randomized


def _with_against(audited: Audit, against: Audit, runners: Sequence[AuditRunner]) -> Audit:
    """Return the audit of a model with that of another one, and their differences."""
    differences, moved = compared(runners)
    return replace(
        audited,
        against=against.model,
        against_checks=against.checks,
        differences=tuple(differences),
        notes=(*audited.notes, *too_few(differences)),
        examples=(*audited.examples, *moved),
    )


def _audited(
    runner: AuditRunner,
    controls: list[MethodSpec],
    data: Mapping[str, Any],
    quick: bool,
    on_step: Callable[[str], None],
) -> Audit:
    """Return the audit of one model."""
    specs = list(runner.methods)
    times = runner.times
    times.begin(QUESTION_OF_EVIDENCE)
    checks = list(runner.evidence_checks())
    times.begin(2)
    on_step("the caption, the image")
    checks += runner.checked(runner.other_side())
    times.begin(3)
    on_step("the wording")
    checks += runner.checked(runner.wording(_QUICK_TEMPLATES if quick else _TEMPLATES))
    times.begin(4)
    on_step("the seed")
    checks += runner.checked(runner.seeds())

    times.begin(5)
    scores = MetricScores(
        runner.model,
        runner.pairs,
        runner.seed,
        runner.batch_size,
        levels=QUICK_LEVELS if quick else LEVELS,
        cache=runner.cache,
        finished=runner.finished,
        with_confidence=not quick,
    )
    checks += _metric_checks(runner, scores, controls, specs, on_step)
    times.begin(7)
    on_step("right and wrong captions")
    checks += [
        check
        for values in discrimination(runner.model, runner.pairs, runner.kept_embeddings)
        if (check := values.check())
    ]
    times.begin(8)
    on_step("everyday nouns")
    unknown_nouns: tuple[str, ...] = ()
    if runner.model.is_classifier:
        runner.notes.append("the model is a classifier: made-up words, other wordings and nouns were not measured")
    else:
        vocabulary, unknown_nouns = vocabulary_check(runner.model)
        checks.append(vocabulary)
    parts: list[Parts] = []
    if not quick:
        times.begin(QUESTION_OF_PARTS)
        on_step("the parts of the images")
        parts += audited_parts(runner, unknown_nouns, data)
        checks += [check for found in parts if (check := parts_check(found))]

    times.begin(1)
    randomized, curves = runner.weights(QUICK_STAGES if quick else STAGES, on_step)
    checks += runner.checked(randomized)
    times.end()

    provenance = resolve(runner.model, Request(specs[0], seed=runner.seed)).provenance
    return Audit(
        model=provenance["model"],
        data=data,
        methods=tuple(map(str, specs)),
        seed=runner.seed,
        seconds=0.0,
        versions=provenance["versions"],
        checks=tuple(sorted(checks, key=lambda check: (check.method or "~", check.question))),
        curves=tuple(curves),
        scores=tuple(scores.scores()),
        examples=(*runner.examples(), *runner.finds(checks)),
        notes=tuple(runner.notes),
        quick=quick,
        unknown_nouns=unknown_nouns,
        parts=tuple(parts),
        question_seconds=tuple(times.seconds.values()),
    )


def _metric_checks(
    runner: AuditRunner,
    scores: MetricScores,
    controls: list[MethodSpec],
    specs: list[MethodSpec],
    on_step: Callable[[str], None],
) -> list[Check]:
    """Measure all methods, and return the checks of what they measure."""
    for index, method in enumerate([*controls, *specs]):
        on_step(f"the metrics of {method}")
        scores.add(method, control=index < len(controls))

    counts = {side: np.array([each.scores.size for each in runner.unchanged[str(specs[0]), side]]) for side in SIDES}
    measured = [
        values
        for method in specs
        for values in (*scores.faithfulness(method, counts), *scores.special_tokens(method), runner.corners(method))
    ]
    return [check for values in measured if (check := values.check())]
