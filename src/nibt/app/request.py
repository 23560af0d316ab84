"""What a visitor asks, read and checked, and the answers to it. Nothing here knows how the page looks."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.app.limits import Limits
from nibt.data.images import SAMPLE, ImageInput, decode_image, read_image, sample_file, samples
from nibt.engine.explain import explain, explain_labels
from nibt.engine.interactions import explain_interactions
from nibt.errors import BadInput, NibtError, Unsupported
from nibt.methods.base import SIDES
from nibt.models.base import Model
from nibt.registry import available, find
from nibt.report.html.view import Failure, Panel
from nibt.report.image.layout import shown
from nibt.results.explanation import Explanation
from nibt.results.interaction import Interaction

SETTINGS = ("default", "paper")
SIDE = 640  # of the copy of an image that stays with an answer


class Mode(StrEnum):
    """The mode of a request; captions are given one per line."""

    each = "each"
    rather = "rather"
    labels = "labels"


@dataclass(frozen=True)
class ExplainRequest:
    """An image, captions, and how they are explained."""

    image: ImageInput
    captions: tuple[str, ...]
    question: Mode = Mode.each
    model: str = "lite"
    methods: tuple[str, ...] = ("nib",)
    variant: str = "default"

    @classmethod
    def read(
        cls, file: Path | None, captions: Any, question: Any, model: Any, methods: Any, variant: Any, limits: Limits
    ) -> "ExplainRequest":
        """What the fields of the page hold, or what somebody sent in their place.

        Raises:
            BadInput: A field is empty, or holds more than the limits allow, or the image cannot be read.
            UnknownName: There is no such method.

        """
        _check_kinds(captions, question, model, methods, variant)
        lines = [line.strip() for line in captions.splitlines() if line.strip()]
        limits.check_captions(lines)
        if not lines:
            raise BadInput("write a caption first: what the image shows, or might show")
        if question != Mode.each and len(lines) < 2:
            raise BadInput("this question needs at least two lines: one caption, or label, a line")
        if not methods:
            raise BadInput("choose at least one method")
        if len(methods) > limits.methods:
            raise BadInput(f"there are {len(methods)} methods, and this page takes {limits.methods} at once")
        for method in methods:
            find("methods", method)
        return cls(read_upload(file, limits), tuple(lines), Mode(question), model, tuple(methods), variant)

    @property
    def steps(self) -> int:
        """How many times ``answered`` yields."""
        return len(self.methods) + self.tabled

    @property
    def tabled(self) -> bool:
        """Whether there are tables of words and regions: they are NIB's, of the cosine."""
        return "nib" in self.methods and self.question == Mode.each


def _check_kinds(captions: Any, question: Any, model: Any, methods: Any, variant: Any) -> None:
    """Refuse what the fields of the page do not send."""
    texts = all(isinstance(one, str) for one in (captions, question, model, variant))
    if not texts or not isinstance(methods, list | tuple) or not all(isinstance(name, str) for name in methods):
        raise BadInput("captions, question, model and setting are texts, and methods a list of names")
    if question not in list(Mode) or variant not in SETTINGS:
        raise BadInput(f"the question is one of {', '.join(Mode)}, the setting one of {', '.join(SETTINGS)}")


def read_upload(file: Path | None, limits: Limits) -> ImageInput:
    """The image of an uploaded file, its size looked at before it is decoded.

    A file with the bytes of a sample is that sample, by its name.

    Raises:
        BadInput: There is no file, or it is no image, or has too many pixels.

    """
    if file is None:
        raise BadInput("give an image first: upload one, paste one, or choose a sample")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput("the image is no longer here, since nothing is kept for long: give it again") from error
    check_pixels(data, limits.pixels)
    for name in samples():
        if data == sample_file(name).read_bytes():
            return read_image(SAMPLE + name)
    return decode_image(data, file.name[:80])


def check_pixels(data: bytes, most: int) -> None:
    """Refuse an image of more pixels than that, from its head alone.

    Raises:
        BadInput: It has more. What is no image at all is left to its reader.

    """
    try:
        with Image.open(BytesIO(data)) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise BadInput(f"the image has more pixels than the {most:,} that this page reads: scale it down") from error
    except (OSError, SyntaxError, ValueError):
        return
    if width * height > most:
        raise BadInput(f"the image has {width:,} x {height:,} pixels, and this page reads {most:,}: scale it down")


def answered(
    request: ExplainRequest,
    model: Model,
    limit: Callable[[int], AbstractContextManager[Any]] = lambda step: nullcontext(),
) -> Iterator[list[Panel | Failure]]:
    """All outcomes so far, after each step: the methods first, then the tables of words and regions of NIB.

    An outcome is final: a later step that fails takes no panel away. A method that fails has its message in its own
    place; a table that fails leaves its reason in its panel. ``limit`` gives the context in which the step of that
    number runs. The images that the answers carry are small copies: what is shown needs no more.
    """
    small = ImageInput(shown(request.image.pil_image, SIDE), request.image.source, request.image.notes)
    outcomes: list[Panel | Failure] = []
    for number, method in enumerate(request.methods):
        try:
            with limit(number):
                outcomes += [
                    Panel(
                        replace(answer, image=replace(answer.image, input=small)), None, _title(request, method, answer)
                    )
                    for answer in _answers(request, model, method)
                ]
        except _FAILURES as error:
            outcomes.append(Failure(method, as_sentence(error)))
        yield list(outcomes)
    if request.tabled:
        yield [_with_table(outcome, request, model, limit(len(request.methods))) for outcome in outcomes]


_FAILURES = (NibtError, RuntimeError, MemoryError)  # torch raises RuntimeError where memory runs out


def _answers(request: ExplainRequest, model: Model, method: str) -> list[Explanation]:
    options: dict[str, Any] = {"method": method, "variant": _variant(method, request.variant), "seed": 0}
    first, *rest = request.captions
    if request.question == Mode.labels:
        return [explain_labels(model, request.image, request.captions, **options)]
    if request.question == Mode.rather:
        return [explain(model, request.image, first, target="difference", against=rest[:1], **options)]
    return explain(model, [request.image] * len(request.captions), list(request.captions), **options)


def _title(request: ExplainRequest, method: str, answer: Explanation) -> str:
    """What tells a panel from those beside it."""
    return answer.caption if len(request.methods) == 1 else f"{method}: {answer.caption}"


def _with_table(
    outcome: Panel | Failure, request: ExplainRequest, model: Model, limit: AbstractContextManager[Any]
) -> Panel | Failure:
    """The panel of nib with its word-region table, or with the reason why it has none; any other outcome as it is."""
    if isinstance(outcome, Failure) or outcome.answer.method["name"] != "nib":
        return outcome
    answer = outcome.answer
    assert isinstance(answer, Explanation)
    try:
        with limit:
            table = explain_interactions(model, request.image, answer.caption, variant=_variant("nib", request.variant))
    except _FAILURES as error:
        return replace(outcome, problem=f"the word-region table failed: {as_sentence(error)}")
    assert isinstance(table, Interaction)  # one pair, one table
    return replace(outcome, table=replace(table, input=answer.image.input))


def _variant(method: str, variant: str) -> str:
    """The variant, where the method has it."""
    return variant if variant in find("methods", method).variants else "default"


def costs() -> list[tuple[str, str]]:
    """Each method with what it says of its cost, in forward passes; NIB first."""
    names = sorted(available("methods"), key=lambda name: (name != "nib", name))
    return [(name, find("methods", name).cost) for name in names]


def unsupported(model: Model) -> dict[str, str]:
    """The methods that cannot explain this model, each with the reason."""
    reasons = {}
    for name, _ in costs():
        try:
            for side in SIDES:
                find("methods", name).configured(model.tower(side), "default", {}, model.defaults)
        except Unsupported as error:
            reasons[name] = str(error).partition(";")[0]
    return reasons


def as_sentence(error: Exception) -> str:
    """An error's message as a sentence. What nibt did not raise on purpose goes to the log, and only its kind here."""
    if not isinstance(error, NibtError):
        logging.getLogger(__name__).error("a step of the page failed", exc_info=error)
        return f"This failed on the machine that serves this page, with a {type(error).__name__}; its log says more."
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ")")) else ".")
