"""Generators behind a server: what each word of an answer took from the image, by changed images alone.

``nibt.load_generator("http://...", name=...)`` returns one, and ``nibt.explain_answer`` explains its answers.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from math import ceil
from typing import Annotated, Any, ClassVar, TypeAlias

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.bridges.answer_servers import AnswerServer, Offer, ServedAnswer, Step, Token, Values
from nibt.bridges.finished_requests import FinishedRequests, finished_requests, name_of
from nibt.core.side import Side
from nibt.data.images import SAMPLE, ImageInput, ImagePart, Region, read_image, side_by_side
from nibt.data.units import Segments, Units, cells_of
from nibt.engine.spec import versions
from nibt.errors import BadInput, BadOption, ServerFailed, Unsupported
from nibt.generators.answers import EXAMPLE_PROMPT, TOKENS_PER_WORD, Generator
from nibt.generators.explain import AnswerExplainer, offered_sources, resolved_method
from nibt.generators.forced import AnswerRequest, read_words
from nibt.generators.results.answer import AnswerExplanation, AnswerImage, ServerRecord
from nibt.generators.results.answer_word import AnswerWord, WordErrors
from nibt.io import read_path
from nibt.methods._units import SegmentMethod
from nibt.methods.base import Method
from nibt.models._functions import CELLS, IMAGE_SIZE, FunctionImageTower, ImageFunction
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest
from nibt.options import ImageSize, Range, complete
from nibt.preprocessing.captions import WORD
from nibt.progress import OnProgress, Progress, listener, listening, no_progress
from nibt.records import JsonObject
from nibt.results.attribution import image_fields, percent
from nibt.results.notes import NOISE, Note, note_fields
from nibt.types import RUNNER_UP, Embedding, Source, UnitValues

METHODS = ("occlusion", "banzhaf", "shapley")
"""The methods that need only log-probabilities for changed images, each of which explains all words at once."""
Box: TypeAlias = tuple[int, int, int, int]
"""The left, upper, right and lower edge of an image on a sheet, in pixels."""
_FEW = 4  # tokens that are written to try a server, if the answer is given
_OFFER = "offer"
_WRITTEN_ANSWER = "written answer"
EXAMPLE_IMAGE = f"{SAMPLE}chelsea"
"""The image of fingerprints, and of checks that name none."""
_WRITTEN = 8  # tokens of a fingerprint
_MOST_NOISE = 1.0  # nats; a server that shows other tokens for an equal request has no finite noise


@dataclass(frozen=True)
class ServedOptions:
    """How images are sent to a server of a generator.

    Args:
        image_size: The side of the square whose area images have that are sent, in pixels. The size that the model
            itself takes is best, so that the server need not resize it.
        cells: The number of rows and of columns of a map of a square image.
        folder: The folder that keeps finished requests; None keeps none.
    """

    image_size: ImageSize = IMAGE_SIZE
    cells: Annotated[int, Range(2, 32)] = CELLS
    folder: str | None = None

    def __post_init__(self) -> None:
        complete(self)


class ServedTower(FunctionImageTower):
    """The log-probabilities of words as a function of the image, which is all that a server shows."""

    sources: ClassVar[tuple[Source, ...]] = ("image",)
    prompts: ClassVar[str] = "needed"
    generation = "greedy"
    frames = 0

    def refusal(self, method: str) -> str:
        if method in METHODS:
            return ""
        return (
            f"{method} needs the weights of the model, which a server does not give: explain an answer with "
            f"{', '.join(METHODS[:-1])} or {METHODS[-1]}, or load the model itself with load_generator"
        )

    def composed(self, images: Sequence[ImageInput], video: bool = False) -> Any:
        """Refuse what runs the model itself."""
        raise Unsupported(
            "this needs the weights of the model, which a server does not give: use explain_answer, or load the model "
            "itself with load_generator"
        )


class UnknownWeights(ImageFunction):
    """What stands for the weights of a model behind a server: the digest of its name, which is all that is known."""

    def __init__(self, name: str) -> None:
        super().__init__()
        digest = list(sha256(name.encode()).digest())
        self.register_buffer("probe", torch.tensor(digest, dtype=torch.float32, device="cpu"))

    def embed_images(self, images: list[Image.Image]) -> Embedding:
        raise Unsupported("what a server shows of an image depends on an answer: use explain_answer")


class ScoredAnswer(ImageFunction):
    """The log-probabilities of the words of an answer as a function of the image, each of which is scored once."""

    answer: ServedAnswer
    offer: Offer

    def __init__(
        self, server: AnswerServer, prompt: str, finished: FinishedRequests, boxes: Sequence[Box] = ()
    ) -> None:
        super().__init__()
        self.server = server
        self.prompt = prompt
        self.boxes = boxes
        """Where several images are on a sheet, which then stands for them; empty for one image."""
        self.finished = finished
        self.requests = server.sent
        self.tokens = server.tokens_used or 0
        self.noise = 0.0
        self.scores: dict[bytes, Values] = {}
        """What was scored, by the pixels of the image."""
        self.sums: dict[bytes, Tensor] = {}
        """What is explained of each word, and before it what it is compared with, by the pixels of the image."""
        self.on_score: OnProgress = no_progress
        self.expected: int | None = None
        self.others: tuple[tuple[int, Token], ...] = ()
        """The token that the first token of each word is compared with, by its place; empty without a comparison."""
        self.register_buffer("probe", torch.zeros(1))

    def ask(self, image: Image.Image, request: AnswerRequest, known: Offer | None, before: ServedAnswer | None) -> None:
        """Let the server write, find out what it offers unless that is known, and read the answer that is explained.

        The tokens of the answer that it wrote ``before`` are known, also if it does not show those of given answers.
        """
        given = request.answer
        written = None
        if given is None or known is None:
            own = self.server.write(
                self.apart(image), self.prompt, _FEW if given is not None else TOKENS_PER_WORD * request.most
            )
            written = self.server.answer(own).first(request.most)
            known = self.server.offer(self.apart(image), self.prompt, own, written, known)

        self.offer = known
        self.noise = known.noise
        if given is not None:
            try:
                self.answer = self.server.read(self.apart(image), self.prompt, given, known.way)
            except Unsupported:
                if before is None or before.text.strip() != given:
                    raise
                self.answer = before
        else:
            assert written is not None
            self.answer = written

        if not self.answer.words:
            raise BadInput(f"the answer {self.answer.text!r:.80} has no word: give another one")

    def compare(self, image: Image.Image, against: str) -> list[str]:
        """Compare each word with another word, or with the second best one; return words that are this one."""
        if against != RUNNER_UP and len(WORD.findall(against)) != 1:
            raise BadInput(f"against must be one word (got {against!r}), or {RUNNER_UP}")

        steps = self.server.steps(self.apart(image), self.prompt, self.answer, self.offer.way)
        others: list[tuple[int, Token]] = []
        itself: list[str] = []
        for word in self.answer.words:
            place = word.tokens[0]
            other = steps[place].runner_up if against == RUNNER_UP else self._first_of(image, against, place)
            if other is None:
                raise Unsupported(
                    f"the server shows no other token than that of {word.text!r}: set top to at least 2 (--load top=2)"
                )

            others.append((place, other))
            if other.key == steps[place].token.key:
                itself.append(repr(word.text))

        if len(itself) == len(others):
            raise BadInput(f"{self.answer.text!r} is compared with itself (got against={against!r}): give another word")

        self.others = tuple(others)
        return itself

    def _first_of(self, image: Image.Image, word: str, place: int) -> Token:
        """Return the first token of another word at a place of the answer."""
        before = self.answer.before(place)
        blank = "" if not before or before[-1:].isspace() else " "
        try:
            read = self.server.read(self.apart(image), self.prompt, f"{before}{blank}{word}", self.offer.way)
        except Unsupported as error:
            raise Unsupported(
                f"{self.server.called} does not show the tokens of the word {word!r}: compare with {RUNNER_UP}, or "
                "leave against out"
            ) from error

        return read.tokens[min(place, read.words[-1].tokens[0])]

    def repeat(self, image: Image.Image) -> None:
        """Score the image once more, after others, so that the server has not kept the answer: it shows the noise."""
        (values,) = self.server.score([self.apart(image)], self.prompt, self.answer, self.offer.way)
        before = self.scores[image.tobytes()][: len(values)]
        differences = [abs(first.value - last.value) for first, last in zip(before, values, strict=True)]
        self.noise = max(self.noise, *differences)

    def embed_images(self, images: list[Image.Image]) -> Embedding:
        new: list[Image.Image] = []
        for image in {image.tobytes(): image for image in images}.values():
            if image.tobytes() in self.scores:
                continue
            values = self.finished.get(self._name_of(image))
            if values is None:
                new.append(image)
            else:
                self._keep(image, values)

        apart = [self.apart(image) for image in new]
        for number, values in self.server.scores(apart, self.prompt, self.answer, self.offer.way, self.others):
            self.finished.add(self._name_of(new[number]), values)
            self._keep(new[number], values)

        return torch.stack([self.sums[image.tobytes()] for image in images])

    def apart(self, image: Image.Image) -> list[Image.Image]:
        """Return the images of the prompt that are on a sheet, or the only one."""
        return [image.crop(box) for box in self.boxes] or [image]

    def _keep(self, image: Image.Image, values: Values) -> None:
        """Keep the log-probabilities with an image, and report it.

        Each has a tensor of its own: the page stops computations at their next tensor.
        """
        words = [sum(values[token].value for token in word.tokens) for word in self.answer.words]
        count = len(self.answer.tokens)
        compared = [
            values[place].value - other.value for (place, _), other in zip(self.others, values[count:], strict=True)
        ]
        self.sums[image.tobytes()] = torch.tensor([*compared, *words], dtype=torch.float32, device="cpu")
        self.scores[image.tobytes()] = values
        self.on_score(Progress(len(self.scores), self.expected))

    def _name_of(self, image: Image.Image) -> str:
        """Return the name of the request for an image, which depends on all that changes its answer."""
        keys = [repr(token.key) for token in self.answer.tokens]
        size = f"{image.width} x {image.height}"
        top = str(self.server.top) if self.offer.way == "prefill" or self.others else ""  # of which bounds depend
        others = [f"{place} {token.key!r}" for place, token in self.others]
        layout = [size, *map(str, self.boxes)]
        return name_of(self.prompt, self.answer.text, *keys, self.offer.way, top, *others, *layout, image.tobytes())

    @contextmanager
    def reporting(self, report: OnProgress, images: int) -> Iterator[None]:
        """Report how many of so many images are scored, inside ``with``: to the listener of the call if there is none.

        Before the first of them is sent, they must be within the limits.
        """
        self._check_limits(images)
        self.expected = len(self.scores) + images
        self.on_score = listener() if report is no_progress else report
        with listening(no_progress):  # of the loops of methods, which know no requests
            yield
        self.on_score = no_progress

    def _check_limits(self, images: int) -> None:
        """Check that so many changed images are within the limits, before the first of them is sent."""
        server = self.server
        needed = images * (len(self.answer.tokens) if self.offer.way == "prefill" else 1)
        for noun, limit, used, more in (
            ("requests", server.requests, server.sent, needed),
            ("tokens", server.tokens, server.tokens_used or 0, needed * server.largest),
        ):
            if limit is not None and used + more > limit:
                raise ServerFailed(
                    f"{images:,} changed images take about {more:,} more {noun}, and the limit of {limit:,} leaves "
                    f"{max(0, limit - used):,}: set {noun} higher, use fewer cells, or a shorter answer (max_words)"
                )

    def record(self) -> ServerRecord:
        """Return what the server was asked."""
        values = [value for row in self.scores.values() for value in row]
        tokens = self.server.tokens_used
        return {
            "way": self.offer.way,
            "requests": self.server.sent - self.requests,
            "tokens": None if tokens is None else tokens - self.tokens,
            "noise": self.noise,
            "bounds": sum(value.is_bound for value in values) / len(values),
        }


@dataclass(frozen=True)
class ServedAnswerExplainer(AnswerExplainer):
    """Explains each word of an answer of a model behind a server, by its log-probability for changed images.

    Cells of the image are replaced by the mean color of photographs. The prompt and the earlier words are not
    explained, and ``with_blank_image`` is the log-probability with no cell of the image. The same request is not sent
    again within an explanation.

    What the server offers is tried before its first explanation, with about seven requests: another image must change
    the log-probabilities, they must not depend on the temperature, and those of a given answer must be those in
    writing. Then the answer is scored for each changed image, by one request, or by one for each token if the server
    takes no whole answers; and for the image as it is once more at the end, which shows the noise.
    """

    def __call__(
        self, generator: Any, request: AnswerRequest, compared: Sequence[ImageInput], report: OnProgress
    ) -> tuple[AnswerExplanation, Method, list[str]]:
        assert isinstance(generator, ServedGenerator)
        offered_sources(self.narrowed, generator.answers.sources)
        prompt = _prompt_of(request)
        method, record = resolved_method(self.spec, generator.answers, self.seed)
        if method.views != 1:
            raise BadOption(f"views must be 1 for a model behind a server (got {method.views}): leave views out")

        assert isinstance(method, SegmentMethod)

        inputs, boxes, picture = _sheet(generator.answers, request.images)
        if boxes and method.units.startswith("segments"):
            raise BadOption("units must be words for several images (got segments): leave units out")

        (sent,) = generator.answers.images(inputs)
        others = [image for image in compared if image.digest != picture.digest]
        with generator.server.session() as server, generator.finished(server) as finished:
            scored = ScoredAnswer(server, prompt, finished, boxes)
            scored.ask(sent, request, generator.kept.get(_OFFER), generator.kept.get(_WRITTEN_ANSWER))
            generator.kept.setdefault(_OFFER, scored.offer)
            if request.answer is None:
                generator.kept[_WRITTEN_ANSWER] = scored.answer
            itself = [] if self.other_word is None else scored.compare(sent, self.other_word)
            tower = ServedTower(scored, generator.options.image_size, generator.options.cells)
            side = Side(replace(generator, module=scored, answers=tower), tower.trace(inputs), _as_they_are)
            words = _explained(side, method, scored, [*map(generator.sent, others)], report)
            scored.repeat(sent)

        options: JsonObject = {
            "narrow": ["image"],
            "other_images": [image.source for image in others],
            "other_images_hash": [image.digest for image in others],
        }
        if scored.others:
            spelled = [token.data.decode(errors="replace") for _, token in scored.others]
            options |= {"against": self.other_word, "tokens": spelled}

        result = AnswerExplanation(
            **image_fields(picture),
            region=inputs.regions[0],
            prompt=prompt,
            answer=scored.answer.text.strip(),
            written=request.answer is None,
            prompt_words=tuple(match.group() for match in WORD.finditer(prompt)),
            words=words,
            images=AnswerImage.parts_of(picture),
            target={"name": "logit_difference" if scored.others else "log_probability", "options": options},
            method=record,
            model=generator.record(),
            versions=versions(),
            server=scored.record(),
        )
        notes = [*generator.notes, *inputs.notes[0], *scored.offer.notes, *_server_notes(result, server)]
        return replace(result, **note_fields(notes)), method, itself


@dataclass(frozen=True, eq=False, repr=False)
class ServedGenerator(Generator):
    """A model behind a server that writes text about an image.

    Attributes:
        server: The server.
        options: How images are sent to it.
    """

    is_served = True
    explainer = ServedAnswerExplainer
    is_compared = False

    answers: ServedTower  # pyright: ignore[reportIncompatibleVariableOverride]
    server: AnswerServer = field(kw_only=True)
    options: ServedOptions = field(kw_only=True)

    @classmethod
    def of(cls, server: AnswerServer, options: ServedOptions) -> "ServedGenerator":
        """Return the generator that a server has."""
        unknown = UnknownWeights(server.name).eval()
        tower = ServedTower(unknown, options.image_size, options.cells)
        request = LoadRequest(facts={"image_size": options.image_size})
        generator = cls(server.name, "server", unknown, tower, request=request, server=server, options=options)
        generator.renewed().kept["checked"] = True
        return generator

    def finished(self, server: AnswerServer) -> AbstractContextManager[FinishedRequests]:
        """Open the folder of finished requests to the model, which the server must still have."""
        folder = None if self.options.folder is None else read_path("folder", self.options.folder)
        request = {"model": self.server.name, "image_size": self.options.image_size}
        return finished_requests(folder, request, partial(self.fingerprint, server))

    def fingerprint(self, server: AnswerServer | None = None) -> JsonObject:
        """Return what the model shows for a fixed request, by which another model under its name is recognized."""
        image = self.sent(read_image(EXAMPLE_IMAGE))
        first, second = ((server or self.server).write(image, EXAMPLE_PROMPT, _WRITTEN) for _ in range(2))
        noise = max(one.difference(other) for one, other in zip(first.steps, second.steps, strict=False))
        places = [{"token": str(step.token.key), "shown": _plain(step)} for step in first.steps]
        return {"noise": min(noise, _MOST_NOISE), "places": places}

    def sent(self, image: ImageInput) -> Image.Image:
        """Return an image as it is sent."""
        return self.answers.images(self.answers.prepare([image]))[0]

    def _towers_anew(self, family: Any) -> tuple[Any]:
        return (self.answers,)

    @property
    def item_ndim(self) -> int:
        return 1

    def _own_facts(self) -> JsonObject:
        return {"dtype": "unknown", "device": "server"}

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.id}, which gets images of about {self.options.image_size} pixels"


def _prompt_of(request: AnswerRequest) -> str:
    """Return the prompt of a request that a server can be asked."""
    if not isinstance(request.prompt, str):
        raise Unsupported("a model behind a server is explained with a prompt of one text: give a text")
    return read_words("prompt", request.prompt)


def _sheet(tower: ServedTower, images: Sequence[ImageInput]) -> tuple[Inputs, Sequence[Box], ImageInput]:
    """Return the inputs of the images of a prompt, where each is on them, and the image that shows all.

    Several are side by side on one sheet, from its upper edge on. What lies below a lower one is never sent, so that
    its cells have scores of 0, and cost no request.
    """
    prepared = [tower.prepare([image]) for image in images]
    if len(images) == 1:
        return prepared[0], (), images[0]

    pixels = [inputs.values[0] for inputs in prepared]
    sheet = pixels[0].new_zeros(1, 3, max(each.shape[1] for each in pixels), sum(each.shape[2] for each in pixels))
    boxes: list[Box] = []
    left = 0
    for each in pixels:
        height, width = each.shape[1:]
        sheet[0, :, :height, left : left + width] = each
        boxes.append((left, 0, left + width, height))
        left += width

    parts = []
    for image, inputs, each in zip(images, prepared, pixels, strict=True):
        shape = each.shape[1] // tower.cell, each.shape[2] // tower.cell
        parts.append(ImagePart(image, inputs.regions[0], shape))

    picture = side_by_side(parts)
    notes = tuple(dict.fromkeys(note for inputs in prepared for note in inputs.notes[0]))
    region = Region(0.0, 0.0, *map(float, picture.size))
    return Inputs(sheet, regions=(region,), notes=(notes,)), boxes, picture


def _plain(step: Step) -> dict[str, float]:
    """Return the log-probabilities of a place as plain data."""
    return {str(key): value for key, value in step.shown.items()}


def _as_they_are(values: Tensor) -> Tensor:
    """Return the log-probabilities of words, each of which is a target."""
    return values


def _explained(
    side: Side, method: SegmentMethod, scored: ScoredAnswer, others: list[Image.Image], report: OnProgress
) -> tuple[AnswerWord, ...]:
    """Explain all words of an answer at once, by the same changed images, and compare them with other images."""
    units = method.units_of(side)
    changed = min(ceil(method.forwards(0, units.count)), 2**units.count) + 1
    with scored.reporting(report, changed + len(others)):
        estimates = method.estimates(side, units)
        values = side.value()[0].tolist()
        without = method.nothing(side, units)[0].tolist()
        elsewhere = scored.embed_images(others).mean(0).tolist() if others else [None] * len(values)

    count = len(scored.answer.words)
    maps = _maps(estimates.scores, units)
    errors = None if estimates.error is None else _maps(estimates.error, units)
    of_prompt = torch.zeros(len(WORD.findall(scored.prompt)), device="cpu")
    return tuple(
        AnswerWord(
            text=word.text,
            tokens=word.tokens,
            log_probability=values[number - count],  # the last ones are log-probabilities
            with_blank_image=without[number - count],
            with_other_images=elsewhere[number - count],
            value=values[number],
            without={"image": without[number]},
            at_blank=without[number],
            grid=maps[number],
            prompt=of_prompt,
            earlier=torch.zeros(number, device="cpu"),
            special=0.0,
            error=None if errors is None else WordErrors.known(errors[number], of_prompt, of_prompt.new_zeros(number)),
        )
        for number, word in enumerate(scored.answer.words)
    )


def _maps(scores: UnitValues, units: Units | Segments) -> Float[Tensor, "word row column"]:
    """Return the scores of units for each word as maps of the one image."""
    if isinstance(units, Segments):
        return units.grid.unfold(units.on_grid(scores)[0].T)
    return cells_of(units).unfold(scores[0].T)


def _server_notes(result: AnswerExplanation, server: AnswerServer) -> list[Note | str]:
    """Return what was asked, how far numbers can be trusted, and whether the map is noise."""
    record = result.server
    assert record is not None
    differ = f"log-probabilities that should be equal differ by up to {record['noise']:.2g} nats"
    notes: list[Note | str] = []
    if float(result.table.abs().max()) < record["noise"]:
        notes.append(Note(NOISE, f"all scores are noise: {differ}"))
    trust = (
        f"{differ}, so smaller scores are noise"
        if record["noise"]
        else "log-probabilities that should be equal are equal"
    )
    asked = f"{record['requests']:,} requests"
    if record["tokens"] is not None:
        asked += f", {record['tokens']:,} tokens"
    notes.append(f"the model is explained as it is served ({asked}, {record['way']}): {trust}")
    if record["bounds"]:
        notes.append(
            f"{percent(record['bounds'])} of the log-probabilities are bounds: the token was not among the "
            f"{server.top:,} that the server shows, and may be less likely than the least likely of these"
        )

    return notes
