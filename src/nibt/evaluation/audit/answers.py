"""The audit of a generator: whether its answers depend on the image, and on the right part of it."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from nibt.data.images import ImageInput, ImageSource, Region, read_image
from nibt.data.objects import Object
from nibt.data.pair import Pair, is_visible, pairs_hash
from nibt.datasets._captions import named_spans
from nibt.datasets.base import Dataset
from nibt.engine.spec import versions
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation.audit.answer_checks import (
    AnswerMap,
    Places,
    change_check,
    common_places,
    map_checks,
    masks_of,
    places_beside,
)
from nibt.evaluation.audit.asked import AskedAudit, check_count, check_unchanged
from nibt.evaluation.audit.checks import LEAST_PAIRS, known_count
from nibt.evaluation.audit.runner import example
from nibt.evaluation.cells import with_cells
from nibt.evaluation.finished import FinishedWork, finished_work
from nibt.evaluation.maps import Map
from nibt.evaluation.parts.asked import on_steps
from nibt.evaluation.statistics import interval
from nibt.generators.answers import Generator
from nibt.generators.explain import explain_answer, resolved_method
from nibt.generators.forced import AnswerRequest, ForcedAnswer, WritesNoWord, read_words
from nibt.generators.loading import load_generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.generators.results.answer_word import HARDLY, judgment
from nibt.models._loaded import is_served
from nibt.progress import OnProgress, reporter
from nibt.records import JsonObject
from nibt.registry import MethodSpec
from nibt.results.audit import Audit, Example, MetricMean, audit_request
from nibt.results.check import Check
from nibt.torch_modes import plain_torch
from nibt.types import SOURCES

Question: TypeAlias = (
    tuple[ImageSource, str]
    | tuple[ImageSource, str, str | None]
    | tuple[ImageSource, str, str | None, np.ndarray | None]
)
"""An image and a prompt, perhaps with the right answer, and a mask of what the question is about."""
OTHERS = 8
"""The images of other questions that each answer is read with again."""
_EXAMPLES = 3
_LARGE_GAP = 0.1  # of the change of a word


@dataclass(frozen=True)
class AuditedQuestion:
    """A question of an audit.

    Attributes:
        pair: The image with its prompt as the caption, and the objects that the question is about.
        answer: The right answer; None if it is not known.
        unnamed: The names of objects that neither the prompt nor the right answer names, which are not counted.
    """

    pair: Pair
    answer: str | None = None
    unnamed: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Reading:
    """What a generator writes, and how likely that is with the images of other questions.

    Attributes:
        answer: The answer.
        log: Its log-probability.
        others: Its log-probability with each of the other images.
        changed: Whether the model would write another answer with each of them.
        right: Whether it is the right answer; None if that is not known.
    """

    answer: str
    log: float
    others: tuple[float, ...]
    changed: tuple[bool, ...]
    right: bool | None

    @property
    def loss(self) -> float:
        return self.log - sum(self.others) / len(self.others)


@plain_torch()
def audit_answers(
    model: Generator | str | Path | nn.Module,
    questions: Sequence[Question | AuditedQuestion],
    methods: str | Sequence[str] = "nib",
    *,
    seed: int = 0,
    quick: bool = False,
    data: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    on_progress: OnProgress | None = None,
) -> Audit:
    """Audit a generator: whether its answers depend on the image, and on the part of it that the questions are about.

    The model writes an answer to each question. The answer is read again with the images of up to eight other
    questions, and each of its words is explained. Then the cells whose scores look like a shortcut are exchanged for
    those of another image: only if this changes answers, they are needed.

    Args:
        model: A loaded generator, or what ``load_generator`` takes. A model behind a server cannot be audited.
        questions: Tuples of an image, a prompt and, where known, the right answer, and a boolean mask (height, width)
            of what the question is about: at least 8, and at least 48 are recommended. With fewer than 24, no check has
            a verdict. An unknown answer is None.
        methods: Names of methods, with or without a variant (``nib:fast``).
        seed: The seed of all random draws.
        quick: Explain the image only, so that the shares of the sources are unknown.
        data: The origin of the questions, which is saved with the result.
        folder: A folder that keeps finished work. If an audit was stopped, the same call with this folder goes on.
        on_progress: Called when a step begins.

    Returns:
        The checks, the shares of the sources in ``scores``, and examples; its ``subject`` is ``answers``.

    Raises:
        BadInput: There are fewer than 8 questions to which the model writes a word, or fewer than 3 different images;
            or a question cannot be read.
        BadOption: There are no methods, the seed is negative, or the model writes by its own settings.
        UnknownName: No method or variant has that name.
        Unsupported: The model is behind a server, lacks what a method needs, or its weights changed during the audit.

    Examples:
        >>> audit_answers("scenes_generator", [("sample:scene", "is there a cat ?")] * 3)
        Traceback (most recent call last):
        nibt.errors.BadInput: an audit needs at least 8 questions (got 3): with fewer, its intervals are too wide
    """
    report = reporter(on_progress)
    asked = AskedAudit.of(methods, data, seed, quick)
    read = _read_questions(questions)
    pairs = [question.pair for question in read]
    _check_images(pairs)

    started = time.perf_counter()
    generator = _loaded(model, asked)
    data = {**(data or {}), "pairs": len(pairs), "pairs_hash": pairs_hash(pairs)}
    request = audit_request(generator.record(), data, asked.names, asked.seed, asked.quick, subject="answers")
    total = len(read) * (2 + 2 * len(asked.methods))
    on_step = on_steps(report, total)

    with finished_work(folder, {**request, "versions": versions()}) as finished:
        answered = _answered(generator, read, finished, on_step)
        notes = [*_left_out(len(read), len(answered)), *_unnamed([posed.question for posed in answered])]
        runner = _Runner(generator, answered, asked.seed, asked.quick, finished)
        readings = []
        for number in range(len(answered)):
            on_step("the images of other questions")
            readings.append(runner.reading(number))
        audited = [_audited(runner, spec, readings, on_step) for spec in asked.methods]

    check_unchanged([generator], [generator.weights_hash])

    changes = [float(np.mean(one.changed)) for one in readings]
    return Audit(
        model=generator.record(),
        data=data,
        methods=tuple(asked.names),
        seed=asked.seed,
        seconds=time.perf_counter() - started,
        versions=versions(),
        checks=(change_check(changes), *(check for one in audited for check in one.checks)),
        curves=(),
        scores=(*_means(asked.names[0], readings), *(mean for one in audited for mean in one.means)),
        examples=tuple(each for one in audited for each in one.examples),
        notes=(*generator.notes, *notes, *(note for one in audited for note in one.notes)),
        quick=asked.quick,
        subject="answers",
    )


def questions_of(data: Dataset, count: int) -> list[AuditedQuestion]:
    """Return the first questions of a data set of prompts, with the objects that the prompt or the right answer names.

    Raises:
        BadInput: A question cannot be read.
    """
    questions = []
    for record in data.records(lambda row: row < count):
        if record is None:
            continue
        if record.row >= count:
            break

        if not record.error and not is_visible(record.captions[0]):
            raise BadInput(f"{record.where}: the prompt is blank (got {record.captions[0]!r}): give at least one word")
        pair = data.read(record, {})
        answer = record.answer or record.reference
        placed = [item for item in pair.objects if item.has_area]
        objects = [item for item in placed if item.spans or (answer and named_spans(answer, {item.name}))]
        unnamed = tuple(item.name for item in placed if item not in objects)
        without_spans = tuple(replace(item, spans=()) for item in objects)
        questions.append(AuditedQuestion(replace(pair, objects=without_spans), answer, unnamed))
    return questions


def _read_questions(questions: object) -> list[AuditedQuestion]:
    """Return questions that are read and checked."""
    if isinstance(questions, str | Mapping) or not isinstance(questions, Sequence):
        raise BadInput(f"questions must be a list of tuples of an image and a prompt (got {type(questions).__name__})")
    check_count(len(questions), "questions")
    return [_read_question(number, question) for number, question in enumerate(questions)]


def _read_question(number: int, question: object) -> AuditedQuestion:
    if isinstance(question, AuditedQuestion):
        return question
    if not isinstance(question, tuple) or not 2 <= len(question) <= 4:
        raise BadInput(
            f"questions[{number}] must be a tuple of an image, a prompt and perhaps an answer and a mask (got "
            f"{type(question).__name__}{f' of {len(question)}' if isinstance(question, tuple) else ''})"
        )

    read = read_image(question[0])
    prompt = read_words(f"prompt of questions[{number}]", question[1], empty=True)
    answer = question[2] if len(question) > 2 else None
    mask = question[3] if len(question) > 3 else None
    answer = None if answer is None else read_words(f"answer of questions[{number}]", answer)
    if mask is not None and not np.any(mask):
        raise BadInput(f"the mask of questions[{number}] has no pixel: give None if it is not known")
    objects = () if mask is None else (Object("mask", None, mask),)
    try:
        pair = Pair(read, prompt, objects)
    except BadInput as error:
        raise BadInput(f"questions[{number}]: {error}") from error
    return AuditedQuestion(pair, answer)


def _check_images(pairs: Sequence[Pair]) -> None:
    """Check that there are enough different images."""
    different = {pair.image.digest for pair in pairs}
    if len(different) < 3:
        raise BadInput(
            f"an audit needs questions about at least 3 different images (got {len(different)}), since it reads each "
            "answer with the images of others"
        )


@dataclass(frozen=True, eq=False)
class _Posed:
    """A question that is posed to a generator, with its number among all questions."""

    generator: Generator
    question: AuditedQuestion
    number: int

    @property
    def pair(self) -> Pair:
        return self.question.pair

    @cached_property
    def forced(self) -> ForcedAnswer:
        """The answer that the model writes, once."""
        return AnswerRequest.of(self.pair.image, self.pair.caption, None, None).forced(self.generator)

    def has_answer(self) -> JsonObject:
        """Return whether the model writes a word, as plain data."""
        try:
            self.forced  # noqa: B018 - it is written now, and kept
        except WritesNoWord:
            return {"has_word": False}
        except BadInput as error:
            raise BadInput(f"question {self.number} ({self.pair.caption!r:.60}) cannot be audited: {error}") from error
        return {"has_word": True}


def _answered(
    generator: Generator, questions: Sequence[AuditedQuestion], finished: FinishedWork, on_step: Callable[[str], None]
) -> list[_Posed]:
    """Return the questions to which the model writes a word."""
    answered = []
    for number, question in enumerate(questions):
        on_step("the answers")
        posed = _Posed(generator, question, number)
        if finished.record(f"written {number}", posed.has_answer)["has_word"]:
            answered.append(posed)
    return answered


def _left_out(asked: int, answered: int) -> list[str]:
    """Return a note on questions without an answer, of which there must not be too many."""
    if answered < LEAST_PAIRS:
        raise BadInput(
            f"the model writes a word to {answered} of {asked} questions, and an audit needs at least {LEAST_PAIRS}: "
            "give other prompts, such as those of the model's documentation"
        )
    if answered == asked:
        return []
    return [f"{asked - answered} of {asked} questions are left out: the model writes no word to them"]


def _unnamed(questions: Sequence[AuditedQuestion]) -> list[str]:
    """Return a note on objects that are not counted."""
    names = [name for question in questions for name in question.unnamed]
    if not names:
        return []
    return [
        f"{len(names)} objects are not counted, such as {names[0]!r}: neither the prompt nor the right answer of their "
        "question names them"
    ]


def _other_positions(pairs: Sequence[Pair]) -> list[list[int]]:
    """Return for each question the positions of the next ones with other images, up to eight different images."""
    digests = [pair.image.digest for pair in pairs]
    positions = []
    for number, digest in enumerate(digests):
        following = [*range(number + 1, len(pairs)), *range(number)]
        by_image: dict[str, int] = {}
        for place in following:
            if digests[place] != digest:
                by_image.setdefault(digests[place], place)
        positions.append(list(by_image.values())[:OTHERS])
    return positions


def _loaded(model: Generator | str | Path | nn.Module, asked: AskedAudit) -> Generator:
    """Load a generator that can be audited with the methods."""
    check_not_served(model)
    generator = load_generator(model).renewed(anew=True)
    if generator.request.generation != "greedy":
        raise BadOption("an audit is of the most probable answers: load the model without generation=model")
    for spec in asked.methods:
        resolved_method(spec, generator.answers, asked.seed)  # a method that the model lacks is an error now
    return generator


def check_not_served(model: object) -> None:
    """Check that a model is not behind a server."""
    if is_served(model):
        raise Unsupported("an audit needs the logits of all tokens, which a server lacks: load the model itself")


@dataclass(frozen=True)
class _Audited:
    """What an audit finds with one method."""

    checks: Sequence[Check]
    means: Sequence[MetricMean]
    examples: Sequence[Example]
    notes: Sequence[str]


class _Runner:
    """Measures each question, and keeps what was measured."""

    def __init__(
        self,
        generator: Generator,
        questions: Sequence[_Posed],
        seed: int,
        quick: bool,
        finished: FinishedWork,
    ) -> None:
        self.generator = generator
        self.questions = questions
        self.pairs = [question.pair for question in questions]
        _check_images(self.pairs)
        self.others = _other_positions(self.pairs)
        self.seed = seed
        self.quick = quick
        self.finished = finished

    def images(self, number: int) -> list[ImageInput]:
        """Return the images of other questions that the answer is read with."""
        return [self.pairs[place].image for place in self.others[number]]

    def reading(self, number: int) -> _Reading:
        """Return what the model writes, and how likely that is with other images."""

        def compute() -> JsonObject:
            forced = self.questions[number].forced
            with_images = [_log_and_change(forced, image) for image in self.images(number)]
            return {
                "answer": forced.answer.text,
                "log": _log_and_change(forced, forced.prompted.image)[0],
                "others": [log for log, _ in with_images],
                "changed": [is_changed for _, is_changed in with_images],
            }

        row = self.finished.record(f"answer {number}", compute)
        right = self.questions[number].question.answer
        return _Reading(
            row["answer"],
            row["log"],
            tuple(row["others"]),
            tuple(row["changed"]),
            None if right is None else _plain(right) == _plain(row["answer"]),
        )

    def explained(self, number: int, spec: MethodSpec) -> JsonObject:
        """Return the map of an answer and the sums of its scores, as plain data."""

        def compute() -> JsonObject:
            pair = self.pairs[number]
            explanation = explain_answer(
                self.generator,
                pair.image,
                pair.caption,
                None,
                spec,
                narrow=["image"] if self.quick else SOURCES,
                other_images=self.images(number),
                seed=self.seed if spec.is_random else None,
            )
            return _plain_map(explanation, self.quick)

        return self.finished.record(f"map {number} of {spec}", compute)

    def exchanged(self, number: int, name: str, donor: int, places: Places, region: Region) -> JsonObject:
        """Return what both exchanges do to an answer: what the log-probability loses, and whether it changes."""

        def compute() -> JsonObject:
            forced = self.questions[number].forced
            image = forced.prompted.image
            log = _log_and_change(forced, image)[0]
            rows = {}
            for kind, cells in (("suspicious", places.suspicious), ("random", places.random)):
                changed_image = with_cells(image, self.pairs[donor].image, region, cells)
                after, is_changed = _log_and_change(forced, changed_image)
                rows[kind] = [log - after, is_changed]
            return rows

        cells = [np.flatnonzero(exchanged).tolist() for exchanged in (places.suspicious, places.random)]
        return self.finished.record(f"exchange {number}, {name}, {cells}", compute)


def _log_and_change(forced: ForcedAnswer, image: ImageInput) -> tuple[float, bool]:
    """Return the log-probability of the words of an answer with an image, and whether the model would write another."""
    logs = forced.logs(image)
    ids = torch.tensor(forced.answer.ids)
    tokens = [token for word in forced.answer.words for token in word.tokens]
    return float(logs[torch.arange(len(ids)), ids][tokens].sum()), bool((logs.argmax(-1) != ids)[tokens].any())


def _plain_map(explanation: AnswerExplanation, quick: bool) -> JsonObject:
    """Return the map of the words that were seen, the absolute scores of each source, and whether the sums hold."""
    seen = [
        word.grid.double() for word in explanation.words if word.judgment == "seen" and word.changes["image"] >= HARDLY
    ]
    sizes = {
        "image": sum(float(word.grid.abs().sum()) for word in explanation.words),
        "prompt": sum(float(word.prompt.abs().sum()) for word in explanation.words),
        "earlier": sum(float(word.earlier.abs().sum()) for word in explanation.words),
    }
    total = sum(sizes.values())
    has_shares = total > 0 and not quick and len(explanation.words[0].without) > 1
    return {
        "grid": torch.stack(seen).sum(0).tolist() if seen else None,
        "region": list(explanation.region),
        "shares": {name: size / total for name, size in sizes.items()} if has_shares else {},
        "adds_up": not any(word.misses(_LARGE_GAP) for word in explanation.words) if explanation.adds_up else None,
        "words": [[word.text, float(word.grid.sum())] for word in explanation.words],
    }


def _plain(answer: str) -> str:
    """Return an answer without capital letters, blanks around it and a final mark."""
    return answer.strip().rstrip(".!?").strip().casefold()


def _audited(
    runner: _Runner, spec: MethodSpec, readings: Sequence[_Reading], on_step: Callable[[str], None]
) -> _Audited:
    """Return the checks of the maps of a method."""
    method = str(spec)
    rows = []
    for number in range(len(readings)):
        on_step(f"the maps of {method}")
        rows.append(runner.explained(number, spec))

    maps = [_map_of(row) for row in rows]
    masks = masks_of(runner.pairs, maps)
    beside = places_beside(maps, masks, runner.seed)
    common = common_places(maps, masks, runner.seed)
    needed: dict[str, list[float]] = {"beside": [], "place": []}
    losses: dict[str, list[float]] = {}
    for number, row in enumerate(rows):
        on_step(f"what the maps of {method} mark")
        donor = _donor(number, runner.others[number], readings)
        for name, places in (("beside", beside[number]), ("place", common[number])):
            if places is None:
                needed[name].append(math.nan)
                continue
            exchanged = runner.exchanged(number, f"{name} of {method}", donor, places, Region(*row["region"]))
            needed[name].append(float(exchanged["suspicious"][1]) - float(exchanged["random"][1]))
            for kind in ("suspicious", "random"):
                losses.setdefault(f"{kind} cells ({name})", []).append(exchanged[kind][0])

    prompts = [pair.caption for pair in runner.pairs]
    checks = list(map_checks(method, maps, masks, prompts, needed["beside"], needed["place"]))
    without = sum(answer.image is None for answer in maps)
    notes = []
    if without:
        notes.append(
            f"{without} of {len(maps)} answers have no map of {method}: no word of them was seen in the image, by the "
            "images of other questions and by a blank one"
        )
    return _Audited(
        checks,
        [*_means_of_maps(method, maps), *_loss_means(method, losses)],
        list(_examples(runner, method, rows, maps)),
        notes,
    )


def _map_of(row: JsonObject) -> AnswerMap:
    image = None if row["grid"] is None else Map(np.array(row["grid"]), region=Region(*row["region"]))
    return AnswerMap(image, dict(row["shares"]), row["adds_up"])


def _donor(number: int, others: Sequence[int], readings: Sequence[_Reading]) -> int:
    """Return the first other question whose answer is another one; the first one if all answers are the same."""
    different = (place for place in others if _plain(readings[place].answer) != _plain(readings[number].answer))
    return next(different, others[0])


def _mean(method: str, name: str, values: Sequence[float], bounds: tuple[float, float] | None) -> Iterator[MetricMean]:
    mean = interval(np.asarray(values, float), bounds)
    if mean.has_ends:
        yield MetricMean(method, "answer", name, *mean, known_count(values), "neither")


def _means(method: str, readings: Sequence[_Reading]) -> Iterator[MetricMean]:
    """Yield what the image adds to the log-probability and, if answers are known, the share of right ones."""
    seen = [float(judgment(one.log, one.others) == "seen") for one in readings]
    yield from _mean(method, "answers that were seen, not guessed", seen, (0.0, 1.0))
    yield from _mean(method, "nats lost with other images", [one.loss for one in readings], None)
    right = [float(one.right) for one in readings if one.right is not None]
    yield from _mean(method, "right answers", right, (0.0, 1.0))


def _means_of_maps(method: str, maps: Sequence[AnswerMap]) -> Iterator[MetricMean]:
    for source in SOURCES:
        shares = [answer.shares[source] for answer in maps if answer.shares]
        yield from _mean(method, f"share of the absolute scores: {source}", shares, (0.0, 1.0))


def _loss_means(method: str, losses: Mapping[str, Sequence[float]]) -> Iterator[MetricMean]:
    for name, values in losses.items():
        yield from _mean(method, f"nats lost by exchanging {name}", values, None)


def _examples(runner: _Runner, method: str, rows: Sequence[JsonObject], maps: Sequence[AnswerMap]) -> Iterator[Example]:
    """Yield the first answers that have a map."""
    shown = [number for number, answer in enumerate(maps) if answer.image is not None][:_EXAMPLES]
    for number in shown:
        image = maps[number].image
        assert image is not None
        words = rows[number]["words"]
        answer = Map(np.array([score for _, score in words]), tuple(text for text, _ in words))
        yield example(method, runner.pairs[number], {"answer": image}, {f"{runner.pairs[number].caption} →": answer})
