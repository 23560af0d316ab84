"""The result of an audit: checks with their verdicts, curves, scores and example maps.

The JSON form is described in ``docs/guides/audit.md``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, computed_field, model_validator

from nibt.records import JsonObject
from nibt.results.audit_questions import QUESTIONNAIRES, Questionnaire
from nibt.results.base import Result, Serializable
from nibt.results.check import VERDICTS, Check, Verdict
from nibt.results.parts import Parts
from nibt.results.records import DataURI
from nibt.types import ModelRecord

ALPHA = 0.05


# What is read from a file is checked here, so that whatever draws an audit need not


def _table(rows: list[list[float]]) -> list[list[float]]:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1 or not all(lengths):
        raise ValueError(f"must have rows of one length, at least 1 (got {sorted(lengths)})")
    return rows


def _part(region: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    left, top, width, height = region
    if min(width, height) <= 0 or max(width, height) > _WIDEST or not (-width < left < 1 and -height < top < 1):
        raise ValueError(f"must be a part of the image as shares of its width and height (got {region})")
    return region


_WIDEST = 100.0  # a region is wider than its image where images are padded


@dataclass(frozen=True)
class RandomizationCurve:
    """The similarity of maps to the original map while a tower is randomized block by block, from the top.

    Attributes:
        method: The method.
        side: The side whose tower is randomized.
        measure: The measure of similarity: ``spearman`` or ``ssim``.
        stages: What has been randomized at each point of the curve; nothing at the first one.
        values: The mean similarity over pairs at each stage.
        lows: The lower ends of the 95 % intervals.
        highs: The upper ends.
    """

    method: str
    side: str
    measure: str
    stages: tuple[str, ...]
    values: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]


@dataclass(frozen=True)
class MetricMean:
    """The mean of a metric over pairs, for a method or a control, with its 95 % interval."""

    method: str
    side: str
    metric: str
    value: float
    low: float
    high: float
    count: int
    better: str


@dataclass(frozen=True)
class Example:
    """An image with the maps and the word scores that a method gives it.

    Attributes:
        method: The method.
        caption: The caption.
        image: The image as a data URI.
        region: Left, top, width and height of the part of the image that the maps cover, as shares of its width and
            height.
        maps: The signed maps by name, rows x columns.
        words: The words with their signed scores, by name.
        check: The check that has this pair among its worst ones, or ``maps`` if it moved; empty for others.
        value: The value of this pair there.
    """

    method: str
    caption: str
    image: DataURI
    region: Annotated[tuple[float, float, float, float], AfterValidator(_part)]
    maps: Mapping[str, Annotated[list[list[float]], AfterValidator(_table)]]
    words: Mapping[str, list[tuple[str, float]]]
    check: str = ""
    value: float | None = None


@dataclass(frozen=True, eq=False)
class ModelDifference(Serializable):
    """The mean difference of the audited model and the model it is compared with, pair by pair.

    Attributes:
        name: What is compared: ``similarity``, ``maps``, or a check of question 9.
        method: The method; empty for the similarity.
        side: The side; empty for the similarity.
        value: The mean over pairs of the audited model; for ``maps``, the correlation of the maps of both models.
        against: The mean of the other model; for ``maps`` 1, as of equal maps.
        difference: The mean of the first minus the second.
        low: The lower end of its 95 % interval.
        high: The upper end.
        count: The number of pairs that have both values.
        p_holm: The p value of Wilcoxon's signed-rank test, with Holm's correction over all differences. Maps are
            compared with those of one model for other wordings of the caption.
        about: A description of what is compared.
    """

    name: str
    method: str
    side: str
    value: float
    against: float
    difference: float
    low: float
    high: float
    count: int
    p_holm: float
    about: str

    @computed_field
    @property
    def verdict(self) -> Literal["moved", "no evidence"]:
        """``moved`` if ``p_holm`` is below 0.05."""
        return "moved" if self.p_holm < ALPHA else "no evidence"


@dataclass(frozen=True, eq=False, repr=False)
class Audit(Result):
    """The result of an audit.

    Attributes:
        model: The model and its hashes.
        data: The data set and the number of pairs.
        methods: The methods that were audited.
        seed: The seed of all random draws.
        seconds: The time that the audit took.
        versions: The versions of packages.
        checks: The checks, in the order of the page.
        curves: The curves of the randomization checks.
        scores: The mean metrics of methods and controls.
        examples: A few pairs with their maps: those with the least positive score on the named objects, if known; up to
            ten for each check of question 9 that does not pass; and up to ten whose maps differ most between both
            models.
        notes: Warnings.
        quick: Whether the audit used fewer pairs and draws.
        unknown_nouns: The everyday nouns that the model does not know.
        against: The model it is compared with, and its hashes.
        against_checks: The checks of that model.
        differences: The differences between both models, each with a test.
        parts: The parts of the images that carry the positive scores of each method, as ``nibt.parts`` finds; their
            ``seconds`` are 0, since ``seconds`` has the time of the whole audit. Empty if the audit is quick.
        question_seconds: The time that each question took, in their order, on the audited model. What several questions
            need counts for one of them: the maps of the pairs themselves for question 9, and all metrics for 5.
        subject: What was audited: the maps of ``pairs``, or the ``answers`` of a generator to questions, which have
            other checks.
    """

    kind: ClassVar[str] = "audit"
    schema: ClassVar[int] = 1

    model: ModelRecord
    data: Mapping[str, object]
    methods: tuple[str, ...]
    seed: int
    seconds: float
    versions: Mapping[str, str]
    checks: tuple[Check, ...]
    curves: tuple[RandomizationCurve, ...]
    scores: tuple[MetricMean, ...]
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()
    quick: bool = False
    unknown_nouns: tuple[str, ...] = ()
    against: ModelRecord | None = None
    against_checks: tuple[Check, ...] = ()
    differences: tuple[ModelDifference, ...] = ()
    parts: tuple[Parts, ...] = ()
    question_seconds: tuple[float, ...] = ()
    subject: Literal["pairs", "answers"] = "pairs"

    @model_validator(mode="after")
    def _of_its_methods(self) -> "Audit":
        """Check that the parts of plain data fit: checks and curves are of its methods, and curves have all stages."""
        if not self.methods:
            raise ValueError("methods must have at least 1 entry (got [])")
        if not self.checks:
            raise ValueError("checks must have at least 1 entry (got [])")

        pairs = self.data.get("pairs", 0)
        if not isinstance(pairs, int) or pairs < 0:
            raise ValueError(f"data.pairs must be a whole number, at least 0 (got {pairs!r:.60})")

        for name in ("checks", "against_checks", "curves", "differences", "parts"):
            _check_methods(name, getattr(self, name), self.methods)
        _check_names("checks", self.checks, self.questionnaire)
        _check_names("against_checks", self.against_checks, self.questionnaire)

        questions = self.questionnaire.questions
        if self.question_seconds and len(self.question_seconds) != len(questions):
            raise ValueError(
                f"question_seconds must have {len(questions)} entries, or none (got {len(self.question_seconds)})"
            )

        for index, example in enumerate(self.examples):
            if example.check and example.value is None:
                raise ValueError(f"examples[{index}].value must be a number, as it has a check (got None)")

        for index, curve in enumerate(self.curves):
            lengths = [len(values) for values in (curve.stages, curve.values, curve.lows, curve.highs)]
            if len(set(lengths)) > 1 or not lengths[0]:
                raise ValueError(
                    f"curves[{index}] must have as many stages, values, lows and highs, at least 1 (got {lengths})"
                )

        return self

    @property
    def questionnaire(self) -> Questionnaire:
        """The questions of the audit and its checks, with what each says."""
        return QUESTIONNAIRES[self.subject]

    def _lines(self) -> Iterator[str]:
        yield f"Audit of {self.model.get('id')}: {self.verdict}"
        asked = f"{self.data.get('pairs')} {self.questionnaire.noun} of {self.data.get('dataset', 'your own')}"
        yield f"  {', '.join(self.methods)} on {asked}"
        yield f"  {', '.join(f'{self.count(verdict)} {verdict}' for verdict in VERDICTS if self.count(verdict))}"
        for check in self.checks:
            if check.verdict == "fail":
                yield f"  {check.verdict}: {check.about} ({check.method} {check.side})".rstrip()

        for row in self.differences:
            if row.verdict == "moved":
                yield f"  moved: {row.about} ({row.method} {row.side}) {row.difference:+.3f}"

    def request(self) -> JsonObject:
        return audit_request(
            self.model,
            self.data,
            methods=self.methods,
            seed=self.seed,
            quick=self.quick,
            against=self.against,
            subject=self.subject,
        )

    def count(self, verdict: Verdict) -> int:
        """Return the number of checks with that verdict."""
        return sum(check.verdict == verdict for check in self.checks)

    @computed_field
    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all checks."""
        return VERDICTS[max((VERDICTS.index(check.verdict) for check in self.checks), default=0)]


def _check_methods(
    name: str, entries: Sequence[Check | RandomizationCurve | ModelDifference | Parts], methods: Sequence[str]
) -> None:
    """Check that entries of an audit are of its methods, or of none."""
    for index, entry in enumerate(entries):
        if entry.method not in ("", *methods):
            raise ValueError(
                f"{name}[{index}].method must be one of methods, {', '.join(methods)} (got {entry.method!r:.60})"
            )


def _check_names(name: str, checks: Sequence[Check], questionnaire: Questionnaire) -> None:
    """Check that checks have known names and questions."""
    for index, check in enumerate(checks):
        if check.name not in questionnaire.checks:
            raise ValueError(
                f"{name}[{index}].name must be the name of a check, such as {next(iter(questionnaire.checks))!r} (got "
                f"{check.name!r:.60})"
            )
        if check.question not in questionnaire.questions:
            raise ValueError(
                f"{name}[{index}].question must be the number of a question, from 1 to {len(questionnaire.questions)} "
                f"(got {check.question})"
            )


def audit_request(
    model: ModelRecord,
    data: Mapping[str, object],
    methods: Sequence[str],
    seed: int,
    quick: bool,
    against: ModelRecord | None = None,
    *,
    subject: str = "pairs",
) -> JsonObject:
    """Return the request of an audit as plain data; equal requests give equal numbers."""
    return {
        "kind": Audit.kind,
        "model": dict(model),
        "data": dict(data),
        "methods": list(methods),
        "seed": seed,
        "quick": quick,
        **({"against": dict(against)} if against else {}),
        **({"subject": subject} if subject != "pairs" else {}),
    }
