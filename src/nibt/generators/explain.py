"""Explanations of the words of answers: ``explain_answer``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

from torch import Tensor, nn

from nibt.data.conversation import Conversation, Prompt
from nibt.data.images import SAMPLE, ImageInput, ImageSource, read_image, samples
from nibt.data.pair import as_list
from nibt.engine.encode import groups_of, within_memory
from nibt.engine.spec import class_and_options, method_record, versions
from nibt.errors import BadInput, BadOption, UnknownName, Unsupported
from nibt.generators.answers import AnswerTokens, Generator
from nibt.generators.difference import check_second, difference, half
from nibt.generators.forced import AnswerRequest, explained_words, read_words
from nibt.generators.loading import load_generator
from nibt.generators.results.answer import AnswerExplanation, AnswerImage
from nibt.generators.results.answer_word import AnswerWord, WordErrors
from nibt.generators.writing import settings_note
from nibt.methods._units import SegmentMethod
from nibt.methods.base import Method
from nibt.models._loaded import default_method
from nibt.models.base import Tower
from nibt.options import BatchSize, Megabytes, parsed
from nibt.preprocessing.captions import WORD
from nibt.preprocessing.images import Processor
from nibt.progress import OnProgress, Progress, reporter
from nibt.registry import MethodSpec
from nibt.results.attribution import error_text, image_fields
from nibt.results.explanation import shortened
from nibt.results.notes import CANNOT_TELL, ERROR_NOT_REACHED, ESTIMATE, HARDLY, Note, note_fields
from nibt.results.records import MethodRecord
from nibt.torch_modes import plain_torch
from nibt.types import SOURCES, Source

_LARGE_GAP = 0.1  # of the change of a word
_DIVERGES = 1000.0  # times the change of a word


@plain_torch()
def explain_answer(
    model: Generator | str | Path | nn.Module,
    image: ImageSource | Sequence[ImageSource],
    prompt: Prompt,
    answer: str | None = None,
    method: str | MethodSpec | Method | None = None,
    *,
    variant: str | None = None,
    against: str | None = None,
    against_image: ImageSource | None = None,
    narrow: Sequence[str] = SOURCES,
    other_images: Sequence[ImageSource] | None = None,
    max_words: int | None = None,
    batch_size: int = 8,
    seed: int | None = None,
    memory_mb: float | None = None,
    processor: Processor = None,
    on_progress: OnProgress | None = None,
    **options: object,
) -> AnswerExplanation:
    """Explain each word of an answer: what the image, the prompt and the earlier words add to its probability.

    The target is the log-probability of the word: the sum over its tokens, given the answer before them. The image, the
    prompt and the earlier words are explained one at a time, with the others unchanged; the baseline is a blank image,
    or a neutral embedding of words. The scores of the patches add up to the log-probability minus that with a blank
    image, up to ``gap``. The scores of the words of the prompt and of the earlier words add up in the same way.

    Args:
        model: A loaded generator, or what ``load_generator`` takes: a name, a folder or a module.
        image: The image; a string is a path or ``sample:NAME``. A list has several images, for models that read
            several, or the frames of a video: the map shows them side by side, ``image_tables`` has the maps of each,
            and ``image_sums`` their sums.
        prompt: The prompt, such as a question; empty for a model that takes none. A conversation is a list of messages
            as in Transformers, ``{"role": "user", "content": "..."}``. A content may also be a list of texts and of
            places of images, ``{"type": "image"}``, or of one video, ``{"type": "video"}``; the images or frames
            themselves are those of ``image``. If the prompt is a text with the model's video token, the images are
            frames, too.
        answer: The answer that is explained. None lets the model write one, always with its most probable token.
        method: The method, as in ``explain``. None means ``nib`` or, for a model behind a server, ``occlusion``: all
            that needs the weights is refused there.
        variant: A variant of the method; None means that of its text, or ``default``.
        against: A word to compare with: the target is then the logit of each word's first token minus that of this
            word's. ``"runner-up"`` is the most probable other token at each place.
        against_image: Another image to compare with: the target is then the log-probability of each word with the image
            minus that with the other one. The map shows both side by side, with the scores of the other image negated:
            blue in the other image raises the log-probability of the word with that image, and red lowers it.
        narrow: The sources that are explained, among "image", "prompt" and "earlier" (the earlier words of the answer).
            A model whose decoder attends to an image encoder, such as BLIP, offers only the image; BLIP and BLIP-2 also
            offer the prompt with methods that change inputs, such as ``occlusion``, which leave its words out.
        other_images: Images with which the log-probability of each word is compared (its ``with_other_images`` is the
            mean over them); None means the samples that ship with nibt or, for a model behind a server, none.
        max_words: The largest number of words that the model writes; None means 30. It cannot be set with an answer.
        batch_size: The largest number of words that go through the model together.
        seed: A seed for methods that draw at random.
        memory_mb: The approximate memory in MB for hidden states, as in ``explain``.
        processor: The processor of a model in memory.
        on_progress: Called after each batch with the number of words that are done; for a model behind a server, with
            the number of changed images that are done.
        **options: Options of the method, such as ``layer=0`` or ``tolerance=0.01``. Without options, ``nib`` explains
            the input of the decoder (layer 0), with as many steps as a tolerance of 0.05 needs and five views of the
            image.

    Raises:
        BadInput: An image cannot be read, the other images are only the explained one, the prompt or the answer is
            empty, or they exceed the model's context.
        UnknownName: No method, variant or option has that name.
        BadOption: An option has an invalid value, or the scores diverge along its path.
        CannotLoad: The model cannot be loaded, or writes no text.
        Unsupported: The model, or its server, does not offer what is needed.
        ServerFailed: A server cannot be reached, refuses access, or would be asked more than its limit.

    Examples:
        >>> explanation = explain_answer("scenes_generator", "sample:scene", "what is left of the house ?")
        >>> explanation.answer
        'hamburger'
        >>> {source: round(share) for source, share in explanation.words[0].shares.items()}
        {'image': 9, 'prompt': 0, 'earlier': 0, 'joint': 2}
    """
    report = reporter(on_progress)
    spec = MethodSpec.of(default_method(model) if method is None else method, variant, options, seed)
    size = parsed("batch_size", batch_size, BatchSize)
    memory = parsed("memory_mb", memory_mb, Megabytes | None)
    request = AnswerRequest.of(image, prompt, answer, max_words)
    other_word = None if against is None else read_words("word of against", against)
    settings = spec, seed, _narrowed(narrow), other_word, size, memory
    _check_options(spec)
    second = None if against_image is None else read_image(against_image)
    if second is not None:
        check_second(request, second, against, other_images)
    several = len(request.images) > 1 or (isinstance(request.prompt, Conversation) and request.prompt.has_video)
    if several and other_images:
        raise BadOption(f"other_images takes the place of one image (got {len(request.images)}): leave it out")

    named = [f"{SAMPLE}{name}" for name in samples()] if other_images is None else as_list(other_images)
    compared = [] if several or second else [read_image(source) for source in named]
    if other_images and {item.digest for item in compared} <= {item.digest for item in request.images}:
        raise BadInput("other_images must be other images (got only the explained one): leave it out for the samples")

    generator = load_generator(model, processor=processor)
    if other_images is None and not generator.is_compared:
        compared = []
    explain = (generator.explainer or AnswerExplainer)(*settings)
    if second is None:
        result, resolved, itself = explain(generator, request, compared, report)
    else:
        first, resolved, itself = explain(generator, request, compared, half(report, 0))
        again = replace(request, images=(second,), answer=first.answer)
        result = difference(first, explain(generator, again, [], half(report, 1))[0], (*request.images, second))

    _check_sums(result, resolved)
    return replace(result, **note_fields([*result.notes, *word_notes(result, resolved, itself)]))


@dataclass(frozen=True)
class AnswerExplainer:
    """The settings with which answers are explained."""

    spec: MethodSpec
    seed: int | None
    narrowed: Sequence[str]
    other_word: str | None
    size: int
    memory: float | None

    def __call__(
        self, generator: Generator, request: AnswerRequest, compared: Sequence[ImageInput], report: OnProgress
    ) -> tuple[AnswerExplanation, Method, list[str]]:
        """Return an explanation without warnings about its words, its method, and words compared with themselves."""
        sources = offered_sources(self.narrowed, self._offered(generator, request), generator.answers.removable)
        forced = request.forced(generator)
        resolved, record = resolved_method(self.spec, forced.tower, self.seed)
        prompted = forced.prompted
        tokens = forced.answer
        picture = forced.prompted.image
        alternatives = None if self.other_word is None else forced.alternatives(self.other_word)
        itself = [] if alternatives is None else forced.compared_with_themselves(alternatives)
        if len(itself) == len(tokens.words):
            raise BadInput(
                f"{tokens.text!r} is compared with itself (got against={self.other_word!r}): give another word"
            )

        others = [item for item in compared if item.digest != picture.digest and not picture.parts]
        probabilities = forced.probabilities(others)
        words: dict[int, AnswerWord] = {}
        batches = groups_of([None] * len(tokens.words), self.size)
        explained = partial(explained_words, forced, probabilities, sources, resolved, alternatives, self.memory)
        for numbers, results in within_memory(batches, explained):
            words |= dict(zip(numbers, results, strict=True))
            report(Progress(len(words), len(tokens.words)))

        options = {
            "narrow": list(sources),
            "other_images": [item.source for item in others],
            "other_images_hash": [item.digest for item in others],
        }
        if alternatives is not None:
            spelled = [forced.tower.tokenizer.decode([token]) for token in alternatives.tolist()]
            options |= {"against": self.other_word, "tokens": spelled}

        result = AnswerExplanation(
            **image_fields(picture),
            region=forced.inputs.regions[0],
            prompt=prompted.prompt,
            answer=tokens.text,
            written=request.answer is None,
            prompt_words=forced.words_of_prompt(sources),
            words=tuple(words[number] for number in range(len(tokens.words))),
            images=AnswerImage.parts_of(picture),
            frames=forced.tower.frames,
            processed_size=None if picture.parts else forced.processed_size,
            target={"name": "log_probability" if alternatives is None else "logit_difference", "options": options},
            method=record,
            model=generator.record(),
            versions=versions(),
            **note_fields([*generator.notes, *forced.notes, *_reading(request.answer, tokens, generator)]),
        )
        return result, resolved, itself

    def _offered(self, generator: Generator, request: AnswerRequest) -> tuple[Source, ...]:
        """Return what can be explained: with methods that change inputs, also words that can be left out."""
        offered = generator.answers.sources
        method, _, _ = class_and_options(self.spec, self.seed)
        has_words = isinstance(request.prompt, str) and WORD.search(request.prompt) is not None
        if has_words and issubclass(method, SegmentMethod):
            offered += generator.answers.removable
        return offered


def _narrowed(names: Sequence[str]) -> list[str]:
    """Check the names of what is narrowed."""
    if not isinstance(names, str | list | tuple):
        raise BadOption(f"narrow must name some of {', '.join(SOURCES)} (got {names!r})")

    listed = as_list(names)
    for name in listed:
        if name not in SOURCES:
            raise UnknownName("sources", str(name), SOURCES)

    if not listed:
        raise BadOption(f"narrow must name at least one of {', '.join(SOURCES)} (got none)")
    return listed


def offered_sources(
    listed: Sequence[str], offered: tuple[Source, ...], removable: tuple[Source, ...] = ()
) -> tuple[Source, ...]:
    """Check that the model offers what is narrowed; all sources are those that it offers."""
    absent = set(listed) - set(offered)
    if absent and not set(SOURCES) <= set(listed):
        if absent <= set(removable):
            raise Unsupported(
                f"the words of the {' and the '.join(sorted(absent))} do not pass through the layers that are "
                "explained: choose a method that changes inputs, such as occlusion or shapley, and a prompt with words"
            )
        raise Unsupported(
            f"this model can narrow only the {' and the '.join(offered)} (got {', '.join(listed)}): its words do not "
            "pass through the layers that are explained"
        )
    return cast(tuple[Source, ...], tuple(name for name in SOURCES if name in listed and name in offered))


def resolved_method(spec: MethodSpec, tower: Tower, seed: int | None) -> tuple[Method, MethodRecord]:
    """Return the method with its options for the tower, and its record."""
    _check_options(spec)
    if refusal := tower.refusal(spec.name):
        raise Unsupported(refusal)

    method_class, options, extra = class_and_options(spec, seed)
    if spec.instance is not None:
        method = spec.instance
        method.check(tower)
    else:
        # a tolerance unless steps are set, and views of an image that can be shifted
        defaults = dict(method_class.task_defaults.get("answer", {})) if spec.variant == "default" else {}
        if {"steps", "quadrature"} & {*spec.options}:
            defaults.pop("tolerance", None)
        if not tower.shiftable:
            defaults.pop("views", None)
        method = method_class.configured(tower, spec.variant, defaults | options, {})

    method.check_amounts("answers")
    return method, method_record(spec, seed, {"text": method}, extra)


def _check_options(spec: MethodSpec) -> None:
    """Check that no option is for models with two towers."""
    prefixed = next((name for name in spec.options if name.startswith(("image_", "text_"))), None)
    if prefixed is not None:
        raise BadOption(f"{prefixed} is for models with two towers: leave out the side, as in layer=1")


def _reading(answer: str | None, tokens: AnswerTokens, generator: Generator) -> list[str]:
    """Return a warning if the model reads a given answer as another text, or would itself write another one."""
    if answer is None:
        return [] if generator.request.generation == "model" else settings_note(generator.module)
    if answer.split() == tokens.text.split():
        return []
    return [f"the model reads the answer {answer[:80]!r} as {tokens.text[:80]!r}"]


def word_notes(result: AnswerExplanation, method: Method, itself: Sequence[str] = ()) -> list[Note | str]:
    """Return warnings about words that are compared with themselves, that the image hardly affects, or with gaps."""
    words = result.words
    guessed = list(dict.fromkeys(repr(word.text) for word in words if word.image_hardly_matters))
    contradicted = list(dict.fromkeys(repr(word.text) for word in words if word.image_contradicts))
    alone = words[0].with_other_images is None
    warnings: list[Note | str] = []
    if itself:
        warnings.append(f"{shortened(itself)} has scores of 0, since its first token is compared with itself")
    if guessed:
        are = "it is" if len(guessed) == 1 else "they are"
        compared = "a blank image" if alone else "other images (scores compare with a blank one)"
        text = f"the image hardly matters for {', '.join(guessed)}: {are} about as likely with {compared}"
        warnings.append(Note(HARDLY, text))

    if len(words[0].each_other_image) == 1:
        text = "whether words were seen or guessed cannot be told from one other image: give several as other_images"
        warnings.append(Note(CANNOT_TELL, text))

    unclear = [repr(word.text) for word in words if word.p_guessed is not None and word.judgment == "cannot tell"]
    unclear = [text for text in dict.fromkeys(unclear) if text not in contradicted]
    if unclear:
        was, them = ("was", "it") if len(unclear) == 1 else ("were", "them")
        text = f"whether {', '.join(unclear)} {was} seen or guessed cannot be told: the model would hardly write {them}"
        warnings.append(Note(CANNOT_TELL, f"{text} here, or the other images differ too much"))

    if contradicted:
        are = "is" if len(contradicted) == 1 else "are"
        compared = "a blank image" if alone else "other images"
        warnings.append(f"{', '.join(contradicted)} {are} less likely with this image than with {compared}")

    warnings += _gaps(result, method)
    warnings += _estimates(result, method)
    return warnings


def _estimates(result: AnswerExplanation, method: Method) -> Iterator[Note]:
    """Yield a note if scores are estimated from random draws, and one on words with a larger error than requested."""
    limit = vars(method).get("error")
    unknown = [repr(word.text) for word in result.words if word.error is None]
    if unknown and _states_errors(method):
        of_words = f"the scores of {shortened(list(dict.fromkeys(unknown)))}"
        yield Note(
            ESTIMATE, f"{of_words} are estimated from too few changed inputs to state their error: allow more of them"
        )
        if limit is not None:
            yield Note(ERROR_NOT_REACHED, f"the error of {of_words} is not known: allow more changed inputs")

    maps = [of_source for word in result.words if word.error for of_source in _maps(word, word.error)]
    if not maps:
        return

    share = max(float(errors.max() / scores.abs().max()) for _, scores, errors in maps)
    unsure = sum(int((scores.abs() <= errors).sum()) for _, scores, errors in maps)
    yield Note(ESTIMATE, f"scores are estimated from random draws{error_text(share, unsure, _count(maps))}")

    above = [repr(text) for text, scores, errors in maps if limit and errors.max() > limit * scores.abs().max()]
    if above:
        text = f"the error of the scores of {shortened(list(dict.fromkeys(above)))} is above {limit:g} of the largest"
        yield Note(ERROR_NOT_REACHED, f"{text}: allow more draws, or a larger error")


def _states_errors(method: Method) -> bool:
    """Return whether a method estimates scores from random draws, and states their error with enough of them."""
    return "error" in vars(method) and method.views == 1 and method.amounts == "method"


def _maps(word: AnswerWord, errors: WordErrors) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the scores of each source of a word with their errors, if they have any."""
    for source in ("grid", "prompt", "earlier"):
        of_source = getattr(errors, source).flatten()
        if of_source.any():
            yield word.text, getattr(word, source).flatten(), of_source


def _count(maps: Sequence[tuple[str, Tensor, Tensor]]) -> int:
    return sum(len(scores) for _, scores, _ in maps)


def _check_sums(result: AnswerExplanation, method: Method) -> None:
    """Check that the scores are not larger by orders of magnitude than what they divide."""
    diverging = [word for word in result.words if word.misses(_DIVERGES)]
    if method.category == "path" and diverging:
        gap = diverging[0].gap
        baseline = vars(method).get("baseline", "blank")
        advice = "baseline=blank" if baseline != "blank" else "more steps, or another layer"
        raise BadOption(
            f"the scores of {diverging[0].text!r} miss the change of the target by {abs(gap):.1g}: the gradients of "
            f"this model diverge along a path from baseline={baseline}; use {advice}"
        )


def _gaps(result: AnswerExplanation, method: Method) -> Iterator[str]:
    """Yield a warning if scores do not add up to the change of the target."""
    if not result.adds_up and method.category != "path":
        yield f"the scores of {result.method['name']} do not add up to what each source gave: compare only their order"
        return

    tolerance = vars(method).get("tolerance")
    share = _LARGE_GAP if tolerance is None else min(tolerance, _LARGE_GAP)
    large = [word for word in result.words if word.misses(share)]
    if large:
        named = ", ".join(dict.fromkeys(repr(word.text) for word in large))
        missed = f"do not add up to the change of the target (gap above {100 * share:.2g} %)"
        yield f"the scores of {named} {missed}: {_advice(large, method)}"


def _advice(words: Sequence[AnswerWord], method: Method) -> str:
    """Return what to do about words whose scores miss their change."""
    values = vars(method)
    if method.category != "path":
        return "compare only their order"
    if values.get("baseline", "blank") != "blank":
        return f"they start at baseline={values['baseline']}, not at a blank image"
    has_special = sum(abs(word.special) for word in words) > sum(abs(word.gap) for word in words) / 2
    if has_special and values.get("layer") != (0,):
        return "other tokens have read the sources below this layer, so use layer=0"
    if values.get("tolerance") is not None:
        return "65 steps, the most with a tolerance, were too few"
    return "set a tolerance" if "tolerance" in values else "the method adds up only with many small steps"
