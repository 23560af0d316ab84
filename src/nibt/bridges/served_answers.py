"""Explanations of answers of models behind a server: what each word took from the image, by changed images alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Annotated, Any

import torch
from PIL import Image
from torch import Tensor

from nibt.bridges.answer_servers import AnswerServer, Offer, ServedAnswer, Values
from nibt.core.side import Side
from nibt.data.images import ImageSource
from nibt.data.units import Segments, cells_of
from nibt.engine.spec import versions
from nibt.errors import BadInput, BadOption, ServerFailed, Unsupported
from nibt.generators.answers import TOKENS_PER_WORD
from nibt.generators.explain import resolved_method, word_notes
from nibt.generators.forced import AnswerRequest, read_words
from nibt.generators.results.answer import AnswerExplanation, ServerRecord
from nibt.generators.results.answer_word import AnswerWord
from nibt.methods._units import SegmentMethod
from nibt.methods.base import Method
from nibt.models._functions import CELLS, IMAGE_SIZE, FunctionImageTower, ImageFunction
from nibt.models._loaded import LoadedModel
from nibt.models._request import LoadRequest
from nibt.options import ImageSize, Range, parsed
from nibt.preprocessing.captions import WORD
from nibt.progress import OnProgress, listening, reporter
from nibt.registry import MethodSpec
from nibt.results.attribution import image_fields, percent
from nibt.results.notes import NOISE, Note, note_fields
from nibt.torch_modes import plain_torch
from nibt.types import Embedding

METHODS = ("occlusion", "banzhaf", "shapley")
"""The methods that need only log-probabilities for changed images, each of which explains all words at once."""
_FEW = 4  # tokens that are written to try a server, if the answer is given
Cells = Annotated[int, Range(2, 32)]


@plain_torch()
def explain_served_answer(
    server: AnswerServer,
    image: ImageSource | Sequence[ImageSource],
    prompt: str,
    answer: str | None = None,
    method: str | MethodSpec | Method = "occlusion",
    *,
    variant: str | None = None,
    max_words: int | None = None,
    image_size: int = IMAGE_SIZE,
    cells: int = CELLS,
    seed: int | None = None,
    on_progress: OnProgress | None = None,
    **options: Any,
) -> AnswerExplanation:
    """Explain each word of an answer of a model behind a server, by its log-probability for changed images.

    Cells of the image are replaced by the mean color of photographs. The prompt and the earlier words are not
    explained, and ``with_blank_image`` is the log-probability with no cell of the image. The same request is not sent
    again within an explanation.

    What the server offers is tried first, with about seven requests: another image must change the log-probabilities,
    they must not depend on the temperature, and those of a given answer must be those in writing. Then the answer is
    scored for each changed image, by one request, or by one for each token if the server takes no whole answers; and
    for the image as it is once more at the end, which shows the noise.

    Args:
        server: The server.
        image: The image.
        prompt: The prompt.
        answer: The answer that is explained. None lets the model write one, always with its most probable token.
        method: One of ``METHODS``, as in ``explain``: ``occlusion`` needs a changed image for each cell, ``banzhaf``
            and ``shapley`` as many as their ``budget``.
        variant: A variant of the method.
        max_words: The largest number of words that the model writes; None means 30. It cannot be set with an answer.
        image_size: The side of the square whose area images have that are sent, in pixels. The size that the model
            itself takes is best, so that the server need not resize it.
        cells: The number of rows and of columns of a square image.
        seed: A seed for methods that draw at random.
        on_progress: Called with the number of changed images that are done.
        **options: Options of the method, such as ``budget=128`` or ``units="segments"``.

    Raises:
        BadInput: The image cannot be read, or the prompt or the answer is empty.
        BadOption: An option has an invalid value.
        Unsupported: The method needs the weights, or the server does not offer what is needed.
        ServerFailed: The server cannot be reached, refuses access, or would be sent more requests than its limit.
    """
    report = reporter(on_progress)
    size, count = parsed("image_size", image_size, ImageSize), parsed("cells", cells, Cells)
    text = read_words("prompt", prompt)
    request = AnswerRequest.of(image, prompt, answer, max_words)
    if len(request.images) != 1:
        raise BadInput(
            f"a model behind a server is explained with one image (got {len(request.images)}): explain each alone"
        )
    spec = MethodSpec.of(method, variant, options, seed)
    if spec.name not in METHODS:
        raise Unsupported(
            f"{spec.name} needs the weights of the model, which a server does not give: choose one of "
            f"{', '.join(METHODS)}, or load the model with load_generator"
        )

    scored = _ScoredAnswer(server, text)
    tower = FunctionImageTower(scored, size, count)
    resolved, record = resolved_method(spec, tower, seed)
    if resolved.views != 1:
        raise BadOption(f"views must be 1 for a model behind a server (got {resolved.views}): leave views out")
    assert isinstance(resolved, SegmentMethod)

    picture = request.images[0]
    inputs = tower.prepare([picture])
    (sent,) = tower.images(inputs)
    scored.ask(sent, request)
    facts = {"image_size": size}
    model = _ServedModel(server.name, "server", scored, request=LoadRequest(facts=facts), tower=tower)
    with listening(report):
        words = _explained(Side(model, tower.trace(inputs), _as_they_are), resolved, scored)
        scored.repeat(sent)

    result = AnswerExplanation(
        **image_fields(picture),
        region=inputs.regions[0],
        prompt=text,
        answer=scored.answer.text.strip(),
        written=answer is None,
        prompt_words=tuple(match.group() for match in WORD.finditer(text)),
        words=words,
        target={
            "name": "log_probability",
            "options": {"narrow": ["image"], "other_images": [], "other_images_hash": []},
        },
        method=record,
        model=model.record(),
        versions=versions(),
        server=scored.record(),
    )
    notes = [*inputs.notes[0], *scored.offer.notes, *_server_notes(result, server), *word_notes(result, resolved)]
    return replace(result, **note_fields(notes))


class _ScoredAnswer(ImageFunction):
    """The log-probabilities of the words of an answer as a function of the image, each of which is scored once."""

    answer: ServedAnswer
    offer: Offer

    def __init__(self, server: AnswerServer, prompt: str) -> None:
        super().__init__()
        self.server = server
        self.prompt = prompt
        self.start = server.sent
        self.noise = 0.0
        self.scores: dict[bytes, Values] = {}
        """What was scored, by the pixels of the image."""
        self.register_buffer("probe", torch.zeros(1))

    def ask(self, image: Image.Image, request: AnswerRequest) -> None:
        """Let the server write, find out what it offers, and read the answer that is explained."""
        given = request.answer
        own = self.server.write(image, self.prompt, _FEW if given is not None else TOKENS_PER_WORD * request.most)
        written = self.server.answer(own).first(request.most)
        self.offer = self.server.offer(image, self.prompt, own, written)
        self.answer = written if given is None else self.server.read(image, self.prompt, given, self.offer.way)
        if not self.answer.words:
            raise BadInput(f"the answer {self.answer.text!r:.80} has no word: give another one")
        self.noise = self.offer.noise
        self.probe = self.embed_images([image])[0]

    def repeat(self, image: Image.Image) -> None:
        """Score the image once more, after others, so that the server has not kept the answer: it shows the noise."""
        (values,) = self.server.score([image], self.prompt, self.answer, self.offer.way)
        differences = [
            abs(first.value - last.value) for first, last in zip(self.scores[image.tobytes()], values, strict=True)
        ]
        self.noise = max(self.noise, *differences)

    def embed_images(self, images: list[Image.Image]) -> Embedding:
        by_pixels = {image.tobytes(): image for image in images}
        new = {pixels: image for pixels, image in by_pixels.items() if pixels not in self.scores}
        values = self.server.score(list(new.values()), self.prompt, self.answer, self.offer.way)
        self.scores |= dict(zip(new, values, strict=True))

        rows = [self.scores[image.tobytes()] for image in images]
        words = self.answer.words
        sums = [[sum(row[token].value for token in word.tokens) for word in words] for row in rows]
        return torch.tensor(sums, dtype=torch.float32, device="cpu")

    def check_limit(self, images: int) -> None:
        """Check that so many changed images are within the limit of requests, before the first of them is sent."""
        needed = images * (len(self.answer.tokens) if self.offer.way == "prefill" else 1)
        limit, sent = self.server.requests, self.server.sent
        if limit is not None and sent + needed > limit:
            raise ServerFailed(
                f"{images:,} changed images take about {needed:,} more requests, and {limit - sent:,} are left of the "
                f"limit of {limit:,}: set requests higher, use fewer cells, or a shorter answer (max_words)"
            )

    def record(self) -> ServerRecord:
        """Return what the server was asked."""
        values = [value for row in self.scores.values() for value in row]
        bounds = sum(value.is_bound for value in values) / len(values)
        requests = self.server.sent - self.start
        return {"way": self.offer.way, "requests": requests, "noise": self.noise, "bounds": bounds}


@dataclass(frozen=True, eq=False, repr=False)
class _ServedModel(LoadedModel):
    """A model behind a server, of which only the log-probabilities of one answer are known."""

    tower: FunctionImageTower = field(kw_only=True)

    @property
    def item_ndim(self) -> int:
        return 1

    @property
    def towers(self) -> Sequence[FunctionImageTower]:
        return (self.tower,)

    def _towers_anew(self, family: Any) -> Sequence[FunctionImageTower]:
        return self.towers


def _as_they_are(values: Tensor) -> Tensor:
    """Return the log-probabilities of words, each of which is a target."""
    return values


def _explained(side: Side, method: SegmentMethod, scored: _ScoredAnswer) -> tuple[AnswerWord, ...]:
    """Explain all words of an answer at once, by the same changed images."""
    units = method.units_of(side)
    scored.check_limit(min(ceil(method.forwards(0, units.count)), 2**units.count) + 1)
    scores = method.scores(side, units)
    values = side.value()[0].tolist()
    without = method.nothing(side, units)[0].tolist()
    grid = units.grid if isinstance(units, Segments) else cells_of(units)
    if isinstance(units, Segments):
        scores = units.on_grid(scores)
    maps = grid.unfold(scores[0].T)

    empty = torch.zeros(len(WORD.findall(scored.prompt)), device="cpu")
    return tuple(
        AnswerWord(
            text=word.text,
            tokens=word.tokens,
            log_probability=values[number],
            with_blank_image=without[number],
            with_other_images=None,
            value=values[number],
            without={"image": without[number]},
            at_blank=without[number],
            grid=maps[number],
            prompt=empty,
            earlier=torch.zeros(number, device="cpu"),
            special=0.0,
        )
        for number, word in enumerate(scored.answer.words)
    )


def _server_notes(result: AnswerExplanation, server: AnswerServer) -> list[Note | str]:
    """Return what was asked, how far numbers can be trusted, and whether the map is noise."""
    record = result.server
    assert record is not None
    differ = f"log-probabilities that should be equal differ by up to {record['noise']:.2g} nats"
    notes: list[Note | str] = []
    if float(result.table.abs().max()) < record["noise"]:
        notes.append(Note(NOISE, f"all scores are noise: {differ}"))
    trust = (
        f"{differ}, so smaller scores are noise" if record["noise"] else "log-probabilities that should be equal are"
    )
    notes.append(f"the model is explained as it is served ({record['requests']:,} requests, {record['way']}): {trust}")
    if record["bounds"]:
        notes.append(
            f"{percent(record['bounds'])} of the log-probabilities are bounds: the token was not among the "
            f"{server.top:,} that the server shows, and may be less likely than the least likely of these"
        )
    return notes
