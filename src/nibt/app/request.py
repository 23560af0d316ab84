"""Requests of the page: reading and checking them, computing their results, and links to them."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image

from nibt.app.limits import Limits, Replaced
from nibt.app.methods import variant_of
from nibt.data.images import SAMPLE, ImageInput, decode_image, open_image, read_image, sample_file, samples
from nibt.engine.explain import explain
from nibt.engine.ranking import explain_ranking
from nibt.engine.regions import regions
from nibt.errors import BadInput, NibtError
from nibt.io import one_line, unicode_text
from nibt.models._loaded import LoadedModel
from nibt.models.base import Model
from nibt.options import Keywords
from nibt.registry import available, find
from nibt.report.html.view import Failure, Panel
from nibt.report.image.layout import resized
from nibt.report.view import view_of
from nibt.results.base import ResultWithMaps
from nibt.results.explanation import Explanation, change_image
from nibt.results.regions import Regions

VARIANTS = ("default", "fast", "paper")
IMAGE_SIZE = 640
"""The longest side of the copy of an image that is kept with a result, in pixels."""


class Mode(StrEnum):
    """What is explained: each caption, the first of two captions or images, a ranking, or an answer to a prompt."""

    each = "each"
    contrast = "contrast"
    images = "images"
    labels = "labels"
    answer = "answer"


@dataclass(frozen=True)
class ExplainRequest:
    """A checked request; in the mode ``answer``, the captions are a prompt and perhaps an answer."""

    image: ImageInput
    captions: tuple[str, ...]
    mode: Mode = Mode.each
    model: str = "lite"
    methods: tuple[str, ...] = ("nib",)
    variant: str = "default"
    against: ImageInput | None = None
    """The second image of the mode ``images``."""

    @classmethod
    def of_values(cls, values: Sequence[object], limits: Limits) -> "ExplainRequest":
        """Return the request of the values of the input fields, in the order of the page, from any client."""
        file, captions, mode, methods, model, variant, *against = values
        if (
            not (isinstance(captions, str) and isinstance(mode, str))
            or not (isinstance(model, str) and isinstance(variant, str))
            or not isinstance(methods, list | tuple)
            or not all(isinstance(name, str) for name in methods)
        ):
            raise BadInput("captions, mode, model and variant must be strings, and methods must be a list of names")

        for name, value, allowed in (("mode", mode, list(Mode)), ("variant", variant, VARIANTS)):
            if value not in allowed:
                raise BadInput(f"{name} must be one of {', '.join(allowed)} (got {value[:80]!r})")

        unicode_text("caption", captions)
        mode = Mode(mode)
        lines = _lines(captions, mode)

        _check_limits(lines, methods, limits)
        _check_count(lines, mode)
        if not methods:
            raise BadInput("choose at least one method, under Methods")

        for method in methods:
            find("methods", method)

        image = read_upload(file, limits)
        second = None
        if mode == Mode.images:
            second = read_upload(next(iter(against), None), limits, "the other image")
        return cls(
            image,
            captions=tuple(lines),
            mode=mode,
            model=model,
            methods=tuple(methods),
            variant=variant,
            against=second,
        )

    @property
    def steps(self) -> int:
        """The number of results of ``explain_steps``."""
        return len(self.methods) + self.has_tables

    @property
    def has_tables(self) -> bool:
        """Whether word-region tables are computed: with NIB, for the cosine of each caption."""
        return "nib" in self.methods and self.mode == Mode.each


def _lines(captions: str, mode: Mode) -> list[str]:
    """Return the captions, one per line; in the mode ``answer`` the prompt and, if it is given, the answer."""
    if mode != Mode.answer:
        return [line.strip() for line in captions.splitlines() if line.strip()]

    prompt, _, answer = captions.partition("\n")
    answer = " ".join(answer.split())
    return [prompt.strip(), answer] if answer else [prompt.strip()]


def _check_limits(lines: Sequence[str], methods: Sequence[str], limits: Limits) -> None:
    """Check that a request is no longer than the page allows."""
    characters = sum(map(len, lines))
    if characters > limits.characters:
        raise BadInput(
            f"the captions have {characters:,} characters, and this page takes {limits.characters:,}: shorten them"
        )

    for noun, items, most in (("captions", lines, limits.captions), ("methods", methods, limits.methods)):
        if len(items) > most:
            raise BadInput(
                f"there are {len(items)} {noun}, and this page takes {most} at once: leave out {len(items) - most}"
            )


def _check_count(lines: Sequence[str], mode: Mode) -> None:
    """Check that a mode has as many captions as it compares."""
    if not lines:
        raise BadInput("write a caption first, such as a description of the image")
    if mode == Mode.contrast and len(lines) > 2:
        raise BadInput(f"two captions are compared (got {len(lines)}): leave out the others, or rank labels")
    if mode == Mode.images and len(lines) > 1:
        raise BadInput(f"two images are compared for one caption (got {len(lines)}): leave out the others")
    if mode in (Mode.contrast, Mode.labels) and len(lines) < 2:
        raise BadInput(f"this mode needs at least two captions or labels, one per line (got {len(lines)})")


def read_upload(file: object, limits: Limits, noun: str = "an image") -> ImageInput:
    """Read an uploaded image. A file with the bytes of a sample is returned as that sample."""
    if not isinstance(file, Path):  # no upload, or what a client made up
        raise BadInput(f"give {noun} first: upload one, paste one, or choose a sample")

    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            "the image is no longer here, since uploads are deleted after a while: upload it again"
        ) from error

    try:
        with open_image(data, "upload") as image:  # which is not decoded
            width, height = image.size
    except BadInput as error:
        if isinstance(error.__cause__, Image.DecompressionBombError):
            raise BadInput(
                f"the image has too many pixels, and this page reads at most {limits.max_pixels:,}: scale it down"
            ) from error
        width = height = 0  # data that are no image are refused below

    if width * height > limits.max_pixels:
        raise BadInput(
            f"the image has {width:,} x {height:,} pixels, and this page reads at most {limits.max_pixels:,}: scale it "
            "down"
        )

    # browsers upload samples as any file, but only results of samples have links
    for name in samples():
        if data == sample_file(name).read_bytes():
            return read_image(SAMPLE + name)

    return decode_image(data, file.name[:80])


def explain_steps(
    request: ExplainRequest,
    model: LoadedModel,
    step_context: Callable[[int], AbstractContextManager[object]] = lambda step: nullcontext(),
) -> Iterator[list[Panel | Failure]]:
    """Yield all outcomes so far after each method, with failures in place, and then with the word-region tables."""
    images = {"image": request.image, "against": request.against}
    small = {side: _small(image) for side, image in images.items() if image is not None}
    outcomes: list[Panel | Failure] = []
    for number, method in enumerate(request.methods):
        try:
            with step_context(number):
                for answer in _explain(request, model, method):
                    text = view_of(answer).heading(answer)
                    title = text if len(request.methods) == 1 else f"{method}: {text}"
                    problem = _PENDING if request.has_tables and method == "nib" else ""
                    for side, image in small.items():
                        answer = change_image(answer, side, input=image)
                    outcomes.append(Panel(answer, None, title, problem))
        except Replaced:  # an error of nibt, too, but nobody waits for the rest
            raise
        except _FAILURES as error:
            outcomes.append(Failure(method, as_sentence(error)))
        yield list(outcomes)

    if request.has_tables:
        yield [_with_table(outcome, request, model, step_context(len(request.methods))) for outcome in outcomes]


def _small(image: ImageInput) -> ImageInput:
    """Return the copy of an image that is kept with a result."""
    return ImageInput(resized(image.pil_image, IMAGE_SIZE), image.source, image.notes)


_PENDING = "their regions are still being computed"
_FAILURES = (NibtError, RuntimeError, MemoryError)  # torch raises RuntimeError if there is not enough memory


def _explain(request: ExplainRequest, model: LoadedModel, method: str) -> Sequence[ResultWithMaps]:
    options: Keywords = {"method": method, "variant": variant_of(method, request.variant)}
    first, *rest = request.captions
    if not isinstance(model, Model):
        from nibt.generators.explain import explain_answer

        generator: Any = model
        return [explain_answer(generator, request.image, first, *rest, **options)]
    if request.mode == Mode.labels:
        return [explain_ranking(model, request.image, request.captions, **options)]
    if request.mode == Mode.contrast:
        return [explain(model, request.image, first, target="difference", against=rest[:1], **options)]
    if request.against is not None:
        return [explain(model, request.image, first, against_images=request.against, **options)]
    return explain(model, [request.image] * len(request.captions), list(request.captions), **options)


def _with_table(
    outcome: Panel | Failure, request: ExplainRequest, model: LoadedModel, context: AbstractContextManager[object]
) -> Panel | Failure:
    """Return a panel of NIB with its word-region table, or with the reason why it has none; else the same outcome."""
    if isinstance(outcome, Failure) or not isinstance(model, Model) or outcome.answer.method["name"] != "nib":
        return outcome

    answer = outcome.answer
    assert isinstance(answer, Explanation)
    try:
        with context:
            table = regions(model, request.image, answer.caption, variant=variant_of("nib", request.variant))
    except Replaced:
        raise
    except _FAILURES as error:
        return replace(outcome, problem=f"the word-region table failed: {as_sentence(error)}")

    assert isinstance(table, Regions)  # one pair, one table
    return replace(outcome, table=replace(table, input=answer.image.input), problem="")


def as_sentence(error: Exception) -> str:
    """Return the message of an error as a sentence; errors of other packages are logged, since they may be private."""
    if not isinstance(error, NibtError):
        logging.getLogger(__name__).error("a step of the page failed", exc_info=error)
        return f"This failed on the server ({type(error).__name__}). Its log has the details."
    text = one_line(str(error))
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ")")) else ".")


@dataclass(frozen=True)
class Link:
    """The parameters of a link; the script of the page adds and reads the selected words itself."""

    image: str
    captions: str
    mode: str
    model: str
    methods: tuple[str, ...]
    variant: str
    against: str = ""

    @classmethod
    def of(cls, request: ExplainRequest) -> "Link | None":
        """Return the link to a request, or None if an image was uploaded and so cannot be linked to."""
        images = [image.source for image in (request.image, request.against) if image is not None]
        if not all(source.startswith(SAMPLE) for source in images):
            return None
        return cls(
            request.image.source.removeprefix(SAMPLE),
            "\n".join(request.captions),
            request.mode,
            request.model,
            request.methods,
            request.variant,
            *(source.removeprefix(SAMPLE) for source in images[1:]),
        )

    @property
    def values(self) -> list[Any]:
        """The values of the fields of the page after the image."""
        against = str(sample_file(self.against)) if self.against else None
        return [self.captions, self.mode, list(self.methods), self.model, self.variant, against]

    @property
    def query(self) -> str:
        """The query of the URL.

        >>> Link("coffee", "a cup", "each", "lite", ("nib", "grad_cam"), "default").query
        'image=coffee&captions=a+cup&mode=each&model=lite&methods=nib%2Cgrad_cam&variant=default'
        """
        values = {**vars(self), "methods": ",".join(self.methods)}
        return urlencode({name: value for name, value in values.items() if value})

    @classmethod
    def from_query(cls, query: Mapping[str, str], models: list[str], max_characters: int) -> "Link | None":
        """Return the link with the parameters of a URL, or None if a parameter is missing or has an unknown value."""
        methods = tuple(query.get("methods", "nib").split(","))
        link = cls(
            query.get("image", ""),
            query.get("captions", "")[:max_characters],
            query.get("mode", "each"),
            query.get("model", models[0]),
            methods,
            query.get("variant", "default"),
            query.get("against", ""),
        )
        is_valid = (
            link.image in samples()
            and link.against in ([*samples()] if link.mode == Mode.images else [""])
            and link.model in models
            and link.mode in list(Mode)
            and link.variant in VARIANTS
            and set(methods) <= set(available("methods"))
        )
        return link if is_valid and link.captions.strip() else None
