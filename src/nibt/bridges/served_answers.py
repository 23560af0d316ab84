"""Generators behind a server: what each word of an answer took from the image and the words before it, by requests.

``nibt.load_generator("http://...", name=...)`` returns one, and ``nibt.explain_answer`` explains its answers.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from typing import Annotated, Any, ClassVar

import torch
from PIL import Image

from nibt.bridges.answer_servers import AnswerServer, Step
from nibt.bridges.finished_requests import FinishedRequests, finished_requests
from nibt.bridges.questions import Question
from nibt.bridges.sampled_answers import SampledAnswerServer
from nibt.bridges.scored_answers import Box, ScoredAnswer
from nibt.bridges.served_sources import ServedNarrowing
from nibt.core.side import Side
from nibt.data.conversation import Conversation
from nibt.data.images import SAMPLE, ImageInput, ImagePart, Region, read_image, side_by_side
from nibt.engine.spec import versions
from nibt.errors import BadOption, Unsupported
from nibt.generators.answers import EXAMPLE_PROMPT, Generator
from nibt.generators.decisions.answer import WordSide
from nibt.generators.explain import AnswerExplainer, offered_sources, resolved_method
from nibt.generators.forced import AnswerRequest, cut_note, read_words
from nibt.generators.results.answer import AnswerExplanation, AnswerImage
from nibt.generators.word_games import TargetModel
from nibt.io import read_path
from nibt.methods._units import SegmentMethod
from nibt.methods.base import Method
from nibt.models._functions import CELLS, IMAGE_SIZE, FunctionImageTower, ImageFunction
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest
from nibt.options import ImageSize, OneOf, Range, complete
from nibt.progress import OnProgress
from nibt.records import JsonObject
from nibt.results.attribution import image_fields, percent
from nibt.results.notes import NOISE, Note, note_fields
from nibt.types import Embedding, Source

METHODS = ("occlusion", "banzhaf", "shapley")
"""The methods that need only log-probabilities for changed images, each of which explains all words at once."""
_OFFER = "offer"
_WRITTEN_ANSWER = "written answer"
EXAMPLE_IMAGE = f"{SAMPLE}chelsea"
"""The image of fingerprints, and of checks that name none."""
_WRITTEN = 8  # tokens of a fingerprint
_MOST_NOISE = 1.0  # nats; a server that shows other tokens for an equal request has no finite noise


@dataclass(frozen=True)
class ServedOptions:
    """How images are sent to a server of a generator, and what is explained.

    Args:
        image_size: The side of the square whose area images have that are sent, in pixels. The size that the model
            itself takes is best, so that the server need not resize it.
        cells: The number of rows and of columns of a map of a square image.
        sources: What is explained: ``all`` (the image, the words of the prompt and the earlier words of the answer), or
            the ``image`` alone, which takes fewer requests.
        folder: The folder that keeps finished requests; None keeps none.
    """

    image_size: ImageSize = IMAGE_SIZE
    cells: Annotated[int, Range(2, 32)] = CELLS
    sources: Annotated[str, OneOf(("all", "image"))] = "all"
    folder: str | None = None

    def __post_init__(self) -> None:
        complete(self)


class ServedTower(FunctionImageTower):
    """The log-probabilities of words as a function of the image, which is all that a server shows."""

    prompts: ClassVar[str] = "needed"
    generation = "greedy"
    frames = 0

    def __init__(self, root: ImageFunction, options: ServedOptions, offered: tuple[Source, ...]) -> None:
        super().__init__(root, options.image_size, options.cells)
        self.sources: tuple[Source, ...] = offered if options.sources == "all" else ("image",)

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


@dataclass(frozen=True)
class ServedAnswerExplainer(AnswerExplainer):
    """Explains each word of an answer of a model behind a server, by its log-probability for changed requests.

    Cells of the image are replaced by the mean color of photographs. Words of the prompt, and words of the answer
    before the one that is explained, are left out of the text, and the log-probability of a word is that of the tokens
    that it then has. The same request is not sent again within an explanation.

    What the server offers is tried before its first explanation, with about seven requests: another image must change
    the log-probabilities, they must not depend on the temperature, and those of a given answer must be those in
    writing. Then the answer is scored for each change, by one request, or by one for each token if the server takes no
    whole answers; and for the image as it is once more at the end, which shows the noise.
    """

    def __call__(
        self, generator: Any, request: AnswerRequest, compared: Sequence[ImageInput], report: OnProgress
    ) -> tuple[AnswerExplanation, Method, list[str]]:
        assert isinstance(generator, ServedGenerator)
        sources = offered_sources(self.narrowed, generator.answers.sources)
        method, record = resolved_method(self.spec, generator.answers, self.seed)
        if method.views != 1:
            raise BadOption(f"views must be 1 for a model behind a server (got {method.views}): leave views out")

        assert isinstance(method, SegmentMethod)

        inputs, boxes, picture = _sheet(generator.answers, request.images)
        if boxes and method.units.startswith(("segments", "refined")):
            raise BadOption(f"units must be words for several images (got {method.units}): leave units out")

        others = [image for image in compared if image.digest != picture.digest]
        with generator.scored(request, inputs, boxes) as (scored, tower):
            itself = [] if self.other_word is None else scored.compare(self.other_word)
            narrowing = ServedNarrowing(tower, method, scored, inputs, sources)
            words = narrowing.words([*map(generator.sent, others)], report)
            scored.repeat()

        options: JsonObject = {
            "narrow": list(sources),
            "other_images": [image.source for image in others],
            "other_images_hash": [image.digest for image in others],
        }
        if isinstance(request.prompt, Conversation):
            options["messages"] = list(request.prompt.turns)  # of which the prompt has the texts alone
        if scored.others:
            spelled = [token.data.decode(errors="replace") for _, token in scored.others]
            options |= {"against": self.other_word, "tokens": spelled}

        result = AnswerExplanation(
            **image_fields(picture),
            region=inputs.regions[0],
            prompt=scored.question.text,
            answer=scored.answer.text.strip(),
            written=request.answer is None,
            prompt_words=narrowing.prompt.words,
            words=words,
            images=AnswerImage.parts_of(picture),
            target={"name": "logit_difference" if scored.others else "log_probability", "options": options},
            method=record,
            model=generator.record(),
            versions=versions(),
            server=scored.record(),
        )
        notes = [*generator.notes, *inputs.notes[0], *scored.offer.notes, *_server_notes(result, scored.server)]
        if scored.is_cut:
            notes.append(cut_note(len(scored.answer.words)))
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
        tower = ServedTower(unknown, options, server.sources)
        request = LoadRequest(facts={"image_size": options.image_size})
        generator = cls(server.name, "server", unknown, tower, request=request, server=server, options=options)
        generator.renewed().kept["checked"] = True
        return generator

    def finished(self, server: AnswerServer) -> AbstractContextManager[FinishedRequests]:
        """Open the folder of finished requests to the model, which the server must still have."""
        folder = None if self.options.folder is None else read_path("folder", self.options.folder)
        request = {"model": self.server.name, "image_size": self.options.image_size}
        return finished_requests(folder, request, partial(self.fingerprint, server))

    @contextmanager
    def scored(
        self, request: AnswerRequest, inputs: Inputs, boxes: Sequence[Box]
    ) -> "Iterator[tuple[ScoredAnswer, ServedTower]]":
        """Let the server write the answer, unless it is given, and yield what scores it."""
        (sent,) = self.answers.images(inputs)
        question = Question(tuple(sent.crop(box) for box in boxes) or (sent,), _prompt_of(request))
        with self.server.session() as server, self.finished(server) as finished:
            scored = ScoredAnswer(server, question, finished, boxes)
            scored.ask(request, self.kept.get(_OFFER), self.kept.get(_WRITTEN_ANSWER))
            self.kept.setdefault(_OFFER, scored.offer)
            if request.answer is None:
                self.kept[_WRITTEN_ANSWER] = scored.answer
            yield scored, ServedTower(scored, self.options, server.sources)

    @contextmanager
    def word_side(
        self, request: AnswerRequest, number: int | None, count: int, against: str | None
    ) -> Iterator[WordSide]:
        """Trace a word of an answer, or the first ``count`` words, for ``nibt.decisive_region``."""
        inputs, boxes, _ = _sheet(self.answers, request.images)
        with self.scored(request, inputs, boxes) as (scored, tower):
            scored.answer = scored.answer.first(count)
            if against is not None:
                scored.compare(against)

            # the values of the target come first, and then the log-probabilities
            columns = slice(-count, None) if number is None else slice(number, number + 1)
            side = Side(TargetModel.of(tower), tower.trace(inputs), lambda values: values[..., columns].sum(-1))
            yield WordSide(side, scored.answer.words, scored.check_limits)

    def fingerprint(self, server: AnswerServer | None = None) -> JsonObject:
        """Return what the model shows for a fixed request, by which another model under its name is recognized."""
        question = Question((self.sent(read_image(EXAMPLE_IMAGE)),), EXAMPLE_PROMPT)
        first, second = ((server or self.server).write(question, _WRITTEN) for _ in range(2))
        noise = max(one.difference(other) for one, other in zip(first.steps, second.steps, strict=False))
        places = [{"token": str(step.token.key), "shown": _plain(step)} for step in first.steps]
        return {"noise": min(noise, _MOST_NOISE), "places": places}

    def sent(self, image: ImageInput) -> Image.Image:
        """Return an image as it is sent."""
        return self.answers.images(self.answers.prepare([image]))[0]

    def _towers_anew(self, family: Any) -> tuple[Any]:
        return (self.answers,)

    def _own_facts(self) -> JsonObject:
        return {"dtype": "unknown", "device": "server"}

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.id}, which gets images of about {self.options.image_size} pixels"


def _prompt_of(request: AnswerRequest) -> str | Conversation:
    """Return the prompt of a request that a server can be asked."""
    if isinstance(request.prompt, str):
        return read_words("prompt", request.prompt)
    if request.prompt.has_video:
        raise Unsupported("a model behind a server gets images, and no video: give the frames as images")
    return request.prompt


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


def _server_notes(result: AnswerExplanation, server: AnswerServer) -> list[Note | str]:
    """Return what was asked, how far numbers can be trusted, and whether the map is noise."""
    record = result.server
    assert record is not None
    differ = f"log-probabilities that should be equal differ by up to {record['noise']:.2g} nats"
    notes: list[Note | str] = []
    if float(result.table.abs().max()) < record["noise"]:
        notes.append(Note(NOISE, f"all scores are noise: {differ}"))
    if isinstance(server, SampledAnswerServer):
        notes.append(
            "the server is asked for texts alone: each log-probability is that of an answer that has the word, "
            f"estimated from {server.count} answers that are drawn"
        )
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
