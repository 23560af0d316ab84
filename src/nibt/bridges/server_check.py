"""What a server of answers offers, found by trying it, and whether it serves the model of a folder."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from PIL import Image

from nibt.bridges.answer_servers import SAME, WAYS, AnswerServer, ImageEffect, Offer, Reply, ServedAnswer
from nibt.bridges.finished_requests import FinishedRequests
from nibt.bridges.questions import Question
from nibt.bridges.sampled_answers import SampledAnswerServer
from nibt.bridges.scored_answers import ScoredAnswer
from nibt.bridges.served_answers import EXAMPLE_IMAGE, ServedGenerator, ServedTower
from nibt.bridges.served_sources import ServedNarrowing
from nibt.data.images import SAMPLE, ImageInput, ImageSource, read_image
from nibt.data.pair import as_list
from nibt.engine.spec import versions
from nibt.errors import BadInput, RequestRefused, Unsupported, first_line
from nibt.generators.answers import EXAMPLE_PROMPT, TOKENS_PER_WORD, AnswerTokens, Generator
from nibt.generators.forced import AnswerRequest, ForcedAnswer, read_words
from nibt.generators.loading import load_generator
from nibt.methods.masks import Occlusion
from nibt.models._inputs import Inputs
from nibt.results.check import Verdict
from nibt.torch_modes import plain_torch

_SQUARES = tuple(f"{SAMPLE}{name}" for name in ("chelsea", "coffee", "scene"))
"""The images whose squares are compared with the model of a folder: how others are cropped is another question."""
_WORDS = 12
_TRIED = 8
"""About the number of requests with which an explanation finds out what a server offers."""
_TRIED_SAMPLES = 4
"""The same for a server that is asked for texts alone."""
_UNSURE = -0.1
"""Tokens that are less probable than this tell models apart; of a certain token, all models have about 0."""
EQUAL = 0.05
"""The largest difference of the log-probability of a token, in nats, that rounding explains."""
ALIKE = 0.15
"""The largest median difference of unsure tokens, in nats, that weights of fewer bits explain."""


@dataclass(frozen=True)
class ServerReading:
    """What was found out, a line per topic.

    Attributes:
        lines: What was found out, by topic.
        passes: Whether answers can be explained and, if the model of a folder was given, the server serves it.
    """

    lines: dict[str, str]
    passes: bool

    def __str__(self) -> str:
        width = max(map(len, self.lines))
        return "\n".join(f"{topic:{width}}  {value}" for topic, value in self.lines.items())


@dataclass(frozen=True)
class TokenPair:
    """The log-probability of a piece of an answer on the server and of the model of a folder."""

    image: str
    text: str
    served: float
    local: float

    @property
    def difference(self) -> float:
        return abs(self.served - self.local)


@dataclass(frozen=True)
class Agreement:
    """How far a server and the model of a folder agree on the same answers.

    Attributes:
        tokens: The tokens of the answers.
        greedy: For each answer, whether the model of the folder writes it, too.
    """

    tokens: tuple[TokenPair, ...]
    greedy: tuple[bool, ...]

    @property
    def largest(self) -> TokenPair:
        """The token with the largest difference."""
        return max(self.tokens, key=lambda token: token.difference)

    @property
    def unsure(self) -> tuple[TokenPair, ...]:
        """The tokens that are not certain for both; all tokens if there is none."""
        return tuple(token for token in self.tokens if min(token.served, token.local) < _UNSURE) or self.tokens

    @property
    def median(self) -> float:
        """The median difference of the unsure tokens."""
        return median(token.difference for token in self.unsure)

    @property
    def first(self) -> TokenPair | None:
        """The first token whose difference rounding does not explain."""
        return next((token for token in self.tokens if token.difference > EQUAL), None)

    @property
    def verdict(self) -> Verdict:
        """``pass``: rounding explains all differences. ``cannot tell``: weights of fewer bits would explain them."""
        if self.first is None:
            return "pass"
        return "cannot tell" if self.median <= ALIKE else "fail"


@plain_torch()
def check_server(
    generator: Generator,
    prompt: str | None = None,
    images: ImageSource | Sequence[ImageSource] = (),
    against: Generator | str | Path | None = None,
) -> ServerReading:
    """Find out by requests what a server offers and, with the model of a folder, whether it serves that model.

    Args:
        generator: The generator behind the server, from ``load_generator("http://...", name=...)``.
        prompt: A prompt; None means an example.
        images: Images, or a single one; the first one is used for what the server offers. With none, samples are used.
        against: A generator or the folder of one, whose log-probabilities of the same answers are compared.

    Returns:
        A line per topic, as ``nibt check`` prints them, and whether answers can be explained. If a folder is given,
        also whether the server serves its model.

    Raises:
        BadInput: The generator is not behind a server, or is compared with one that is.
        ServerFailed: The server cannot be reached, refuses access, or would be asked more than its limit.
        CannotLoad: The model of the folder cannot be loaded.
    """
    if not isinstance(generator, ServedGenerator):
        raise BadInput(
            f"generator must be behind a server (got {type(generator).__name__}): load it with "
            "load_generator('http://...', name=...)"
        )

    local = against if against is None or isinstance(against, Generator) else load_generator(against)
    if local is not None and local.is_served:
        raise BadInput("against must be the model of a folder (got one behind a server): load it from its folder")

    text = EXAMPLE_PROMPT if prompt is None else read_words("prompt", prompt)
    pictures = [read_image(image) for image in as_list(images)]
    with generator.server.session() as server:
        lines: dict[str, str] = {"model": f"{server.name}, behind a server"}
        passes = _offered(server, generator, pictures[0] if pictures else read_image(EXAMPLE_IMAGE), text, lines)
        if local is not None:
            passes = _compared(server, generator, pictures, text, local, lines) and passes
        used = server.tokens_used

    lines["asked"] = f"{server.sent:,} requests" + ("" if used is None else f", {used:,} tokens")
    lines["versions"] = f"nibt {versions()['nibt']}"
    return ServerReading(lines, passes)


def _offered(
    server: AnswerServer, generator: ServedGenerator, picture: ImageInput, prompt: str, lines: dict[str, str]
) -> bool:
    """Add what a server offers, and return whether answers can be explained."""
    image = generator.sent(picture)
    question = Question((image,), prompt)
    inputs = generator.answers.prepare([picture])
    rows, columns = (side // generator.answers.cell for side in generator.answers.extent(inputs))
    lines["image"] = f"{picture.source}, sent as {image.width} x {image.height}, in {columns} x {rows} cells"
    try:
        own = server.write(question, TOKENS_PER_WORD * _WORDS)
        written = server.answer(own).first(_WORDS)
    except (BadInput, RequestRefused, Unsupported) as error:
        lines["answer"] = f"no: {first_line(error)}"
        return False

    read = "" if own.read is None else f", after {own.read:,} that are read"
    lines["answer"] = f"{prompt!r} is answered {written.text.strip()!r}, {len(written.tokens)} tokens{read}"
    if isinstance(server, SampledAnswerServer):
        return _sampled(server, question, own, written, rows * columns, lines)

    effect = server.effect_of_image(question, own)
    lines |= _lines_of_image(effect)
    temperature = server.effect_of_temperature(question, own)
    lines["temperature"] = f"log-probabilities differ by {temperature:.2g} nats at 1" + _refused(
        lambda: server.check_temperature(temperature)
    )
    lines["noise"] = f"equal requests differ by {effect.noise:.2g} nats"
    shown = min(len(step.shown) for step in own.steps)
    named = "ids" if own.steps[0].token.id is not None else "bytes"
    lines["shown"] = f"{shown:,} tokens at each place, by their {named}"

    working = _working_ways(server, question, own, written, lines)
    lines["given answers"] = _given(server, question, written, working)
    explained = None
    is_usable = effect.is_seen and temperature <= SAME
    if is_usable and working:
        each = server.requests_for(written, working[0])
        of_image = each * (rows * columns + 2) + _TRIED
        of_words = _requests_of_words(server, generator, question, inputs, written, working[0])
        parts = f" ({of_image:,} for the image alone)" if of_words else ""
        explained = (
            f"yes, by {working[0]}: occlusion of this answer takes {of_image + of_words:,} requests{parts} of about "
            f"{server.largest:,} tokens"
        )
    elif is_usable and _gives_first_token(server, question, own, written):
        explained = "only answers of one token (--max-words 1), since the server does not continue answers"

    lines["explained"] = explained or "no: choose another server or another model"
    return explained is not None


def _working_ways(
    server: AnswerServer, question: Question, own: Reply, written: ServedAnswer, lines: dict[str, str]
) -> list[str]:
    """Add which ways of asking for given answers work, and return these."""
    working = []
    for way in WAYS:
        try:
            noise = server.tried(question, own, written, way)
        except (RequestRefused, Unsupported) as error:
            lines[way] = f"no: {first_line(error)}"
            continue

        working.append(way)
        lines[way] = f"yes: log-probabilities are those in writing, within {noise:.2g} nats"

    return working


def _sampled(
    server: SampledAnswerServer,
    question: Question,
    own: Reply,
    written: ServedAnswer,
    cells: int,
    lines: dict[str, str],
) -> bool:
    """Add what a server that is asked for texts alone offers, and return whether answers can be explained."""
    try:
        note = server.check_seen(question, own)
    except Unsupported as error:
        lines["sees image"] = f"no: {first_line(error)}"
        lines["explained"] = "no: choose another server or another model"
        return False

    way = server.sampling(question)
    each = server.requests_for(written, way)
    requests = _TRIED_SAMPLES + each * (cells + 3)  # the image as it is, asked twice, and a blank one
    lines["sees image"] = note or "yes: more tokens are read with it than without"
    lines["samples"] = f"{server.count} answers by {each} {'request' if each == 1 else 'requests'}"
    lines["explained"] = f"yes, by {way}: occlusion of the image takes {requests:,} requests"
    return True


def _requests_of_words(
    server: AnswerServer,
    generator: ServedGenerator,
    question: Question,
    inputs: Inputs,
    written: ServedAnswer,
    way: str,
) -> int:
    """Return how many requests the words of the prompt and the earlier words of an answer take."""
    if generator.answers.sources == ("image",):
        return 0

    scored = ScoredAnswer(server, question, FinishedRequests())
    scored.answer = written
    scored.offer = Offer(way, 0.0, ())
    tower = ServedTower(scored, generator.options, server.sources)
    narrowing = ServedNarrowing(tower, Occlusion(), scored, inputs, ("prompt", "earlier"))
    each = server.requests_for(written, way)
    return each * (len(narrowing.prompt.words) + 2) + narrowing.continued()


def _lines_of_image(effect: ImageEffect) -> dict[str, str]:
    """Return whether the server sees the image, and counts it."""
    seen = f"{_yes(effect.is_seen)}: another image changes log-probabilities by up to {effect.change:.2g} nats"
    counted = "not known"
    if effect.is_counted is not None:
        numbers = f"{effect.read:,} tokens are read with it, {effect.read_without:,} without"
        counted = f"{_yes(effect.is_counted)}: {numbers}"
    return {"sees image": seen, "counts image": counted}


def _gives_first_token(server: AnswerServer, question: Question, own: Reply, written: ServedAnswer) -> bool:
    """Return whether the server gives the log-probability of the first token of an answer."""
    try:
        server.tried(question, own, written.first(1), "prefill")
    except (RequestRefused, Unsupported):
        return False
    return True


def _given(server: AnswerServer, question: Question, written: ServedAnswer, working: Sequence[str]) -> str:
    """Return whether answers can be explained that the server did not write."""
    if not working:
        return "no"

    try:
        read = server.read(question, written.text, working[0])
    except Unsupported as error:
        return f"no: {first_line(error)}"

    same = [token.data.strip() for token in read.tokens] == [token.data.strip() for token in written.tokens]
    return "yes" if same else "yes, though the server reads its own answer as other tokens"


def _refused(check: Callable[[], object]) -> str:
    """Return why a check fails; empty if it does not."""
    try:
        check()
    except Unsupported as error:
        return f": {first_line(error)}"
    return ""


def _yes(is_true: bool) -> str:
    return "yes" if is_true else "no"


def _compared(
    server: AnswerServer,
    generator: ServedGenerator,
    pictures: Sequence[ImageInput],
    prompt: str,
    local: Generator,
    lines: dict[str, str],
) -> bool:
    """Add how far a server and the model of a folder agree, and return whether the server serves it."""
    samples = [read_image(name) for name in _SQUARES]
    compared = [generator.sent(picture) for picture in pictures or map(_square, samples)]
    names = [picture.source for picture in pictures or samples]
    try:
        agreement = agreement_of(server, local, dict(zip(names, compared, strict=True)), prompt)
    except (BadInput, RequestRefused, Unsupported) as error:
        lines["agrees"] = f"no: {first_line(error)}"
        return False

    largest = agreement.largest
    lines["difference"] = (
        f"of {len(agreement.tokens)} tokens, at most {largest.difference:.2g} nats; median {agreement.median:.2g} of "
        f"{len(agreement.unsure)} that are unsure"
    )
    part = agreement.first
    lines["part"] = (
        f"nowhere by more than {EQUAL}"
        if part is None
        else f"at {part.text!r} of {part.image}, whose log-probability is {part.served:.3g} on the server and "
        f"{part.local:.3g} here"
    )
    lines["same answers"] = f"{sum(agreement.greedy)} of {len(agreement.greedy)}"
    if not pictures and agreement.verdict != "fail":
        lines["wide images"] = _wide(server, generator, local, prompt)
    lines["agrees"] = {
        "pass": "yes: the server serves this model, up to rounding",
        "cannot tell": f"cannot tell: weights of 4 to 6 bits would explain it (a median up to {ALIKE}), and so would a "
        "small mistake",
    }.get(agreement.verdict, "no: the server serves another model, or prepares images or prompts in another way")
    return agreement.verdict != "fail"


def _square(picture: ImageInput) -> ImageInput:
    """Return the square in the middle of an image."""
    width, height = picture.size
    side = min(width, height)
    left = (width - side) // 2
    top = (height - side) // 2
    return ImageInput(picture.pil_image.crop((left, top, left + side, top + side)), picture.source)


def _wide(server: AnswerServer, generator: ServedGenerator, local: Generator, prompt: str) -> str:
    """Return whether an image that is no square is prepared as the model of the folder does it."""
    try:
        agreement = agreement_of(server, local, {EXAMPLE_IMAGE: generator.sent(read_image(EXAMPLE_IMAGE))}, prompt)
    except (BadInput, RequestRefused, Unsupported) as error:
        return f"not known: {first_line(error)}"

    largest = agreement.largest.difference
    if agreement.verdict != "fail":
        return f"differ by at most {largest:.2g} nats"
    return f"differ by up to {largest:.2g} nats: the server prepares them in another way, so send squares"


def agreement_of(server: AnswerServer, local: Generator, images: dict[str, Image.Image], prompt: str) -> Agreement:
    """Compare the log-probabilities of what a server writes about images with those of the model of a folder."""
    tokens: list[TokenPair] = []
    greedy: list[bool] = []
    for name, image in images.items():
        reply = server.write(Question((image,), prompt), TOKENS_PER_WORD * _WORDS)
        written = server.answer(reply).first(_WORDS)
        forced = AnswerRequest.of(ImageInput(image, name), prompt, written.text, None).forced(local)
        own = forced.tower.write(forced.prompted, _WORDS)
        is_same = own.text.split() == written.text.split()
        greedy.append(is_same)

        read = own if is_same else forced.answer
        forced = ForcedAnswer(local, forced.tower, forced.prompted, _with_ids(forced, written) or read)
        tokens += _pairs(name, reply, written, forced)

    if not tokens:
        raise Unsupported("the server writes other tokens than those of the model of the folder")
    return Agreement(tuple(tokens), tuple(greedy))


def _with_ids(forced: ForcedAnswer, written: ServedAnswer) -> AnswerTokens | None:
    """Return an answer of the ids that a server shows, for the model of the folder; None if it shows none."""
    ids = [token.id for token in written.tokens if token.id is not None]
    if len(ids) < len(written.tokens):
        return None

    if max(ids) < len(forced.tower.tokenizer):
        tokens = forced.tower.spelled(ids)
        if tokens.text.split() == written.text.split():
            return tokens

    raise Unsupported(f"the ids of the tokens of {written.text!r:.80} are not those of the model of the folder")


def _pairs(name: str, reply: Reply, written: ServedAnswer, forced: ForcedAnswer) -> Iterator[TokenPair]:
    """Yield the log-probabilities of the tokens of an answer, up to where the model of the folder has other ones."""
    logs = forced.logs(forced.prompted.image)
    local = logs[torch.arange(len(logs)), list(forced.answer.ids)].tolist()
    data = written.text.encode()
    rows = zip(reply.steps, written.tokens, written.ends, local, strict=False)
    for place, (step, token, end, value) in enumerate(rows):
        text = token.data.decode(errors="replace").strip()
        so_far = data[:end].decode(errors="replace")
        if so_far.split() != "".join(forced.answer.texts[: place + 1]).split():
            return
        yield TokenPair(name, text, step.value(token).value, value)
