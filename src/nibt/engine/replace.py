"""Counterfactual words: by how much the similarity changes if a word of the caption is replaced."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import Any, TypeAlias

from nibt.data.images import ImageSource, read_image
from nibt.data.objects import Span
from nibt.data.pair import Caption, as_list, read_caption
from nibt.datasets._captions import plural, plurals, with_article
from nibt.engine.encode import encode
from nibt.engine.explain import explain
from nibt.engine.ranking import rank
from nibt.errors import BadInput, Unsupported
from nibt.io import unicode_text
from nibt.models._loading import ModelSource, load_model
from nibt.options import Top, parsed
from nibt.preprocessing.captions import DROPPED, FUNCTION_WORDS, NOUNS, UNKNOWN, WORD, words_of_text
from nibt.progress import OnProgress, Progress, listener, reporter
from nibt.results.explanation import Explanation, shortened
from nibt.torch_modes import plain_torch

Words: TypeAlias = str | Caption
Candidates: TypeAlias = Words | Sequence[Words] | Mapping[str, Words | Sequence[Words] | None]
MOST_CAPTIONS = 50_000
_TOGETHER = 512  # captions whose embeddings are in memory
_COUNTS = ("two", "three")
_SINGULAR = {"a", "an", "the", "one"}
_DETERMINERS = {*_SINGULAR, *_COUNTS, "four", "five", "six", "seven", "eight", "nine", "ten"}
_COUNTED = frozenset(form for noun in NOUNS for form in plurals(noun)).difference(NOUNS)


@dataclass(frozen=True)
class Replacement:
    """A caption in which a word is replaced, and its similarity with the image.

    Attributes:
        word: What is replaced: a word or, if it is negated or counted, a noun with its article and adjectives.
        replacement: What takes its place.
        caption: The changed caption, whose article fits.
        similarity: Its similarity with the image: the cosine, in [-1, 1], for late interaction MaxSim, or the score of
            a model that reads image and text together.
        change: ``similarity`` minus that of the original caption; positive if the replacement fits the image better.
    """

    word: str
    replacement: str
    caption: str
    similarity: float
    change: float


@plain_torch()
def replace_words(
    model: ModelSource,
    image: ImageSource,
    caption: str | Caption,
    candidates: Candidates | None = None,
    most: int = 3,
    *,
    on_progress: OnProgress | None = None,
) -> list[Replacement]:
    """Replace each word of a caption by others, and return the replacements that change the similarity most.

    The image is embedded once. Replacements that have the same tokens as the caption or as another replacement are left
    out. So are words that the tokenizer does not know; a warning in the log names those of ``candidates``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image; a string is a path or ``sample:NAME``.
        caption: The caption.
        candidates: The replacements: words without articles for each content word of the caption, or a mapping from
            words of the caption to their replacements. None means 1,000 everyday English nouns, without those of the
            caption; negations ("no", "not a", "without") and the counts two and three of each noun are added. As a
            value of a mapping, None means these nouns only.
        most: How many replacements to return for each word from both ends: those with the highest similarity and as
            many with the lowest. At least 1.
        on_progress: Called with the number of captions that are embedded.

    Returns:
        The replacements in the order of the words in the caption; those of one word are sorted from the highest
        similarity to the lowest.

    Raises:
        BadInput: The image, the caption or a candidate cannot be read, the caption has no such word, no replacement
            is left, or there are more than 50,000.
        BadOption: ``most`` is below 1.

    Examples:
        >>> for row in replace_words("lite", "sample:chelsea", "a cat", ["dog", "owl"]):
        ...     print(row.caption, row.change < 0)
        a dog True
        an owl True
    """
    image = read_image(image)
    caption = read_caption(caption)
    texts = read_replacements(caption, candidates)
    most = parsed("most", most, Top)
    on_progress = reporter(on_progress)
    model = load_model(model)
    if model.is_classifier:
        raise Unsupported(
            f"{model.id} is a classifier, whose texts are classes without words to replace: rank its classes, or "
            "explain one against another"
        )

    @cache
    def is_known(text: str) -> bool:
        return not any(note.startswith((UNKNOWN, DROPPED)) for note in model.text.tokens(text).notes)

    # the first caption is the original one, so that replacements with its tokens are left out
    changed: dict[Any, tuple[int, str, str]] = {model.text.tokens(caption).ids: (0, "", caption)}
    for place, (span, replacements) in enumerate(texts):
        for text in filter(is_known, replacements):
            new = _changed(caption, span, text)
            changed.setdefault(model.text.tokens(new).ids, (place, text, new))

    _warn_of_unknown(candidates, is_known)
    rows = list(changed.values())
    if len(rows) == 1:
        raise BadInput(
            f"no replacement is left for the caption {caption!r:.80}: the model knows none, or reads each as the "
            "caption itself; give other candidates"
        )

    of_image = encode(model.image, [image])
    similarities: list[float] = []
    for first in range(0, len(rows), _TOGETHER):
        embeddings = encode(model.text, [new for *_, new in rows[first : first + _TOGETHER]])
        similarities += model.similarity.to_each(of_image, embeddings)[0].float().tolist()
        on_progress(Progress(len(similarities), len(rows)))

    result = []
    scored = zip(rows[1:], similarities[1:], strict=True)
    for place, group in groupby(scored, key=lambda item: item[0][0]):
        word = caption[slice(*texts[place][0])]
        ordered = [
            Replacement(word, text, new, similarity, similarity - similarities[0])
            for (_, text, new), similarity in sorted(group, key=lambda item: -item[1])
        ]
        result += ordered if len(ordered) <= 2 * most else ordered[:most] + ordered[-most:]

    return result


def _warn_of_unknown(candidates: Candidates | None, is_known: Callable[[str], bool]) -> None:
    """Log a warning that names the candidates of the caller that the tokenizer does not know."""
    lists = candidates.values() if isinstance(candidates, Mapping) else [candidates]
    texts = (text for listed in lists if listed is not None for text in _read_texts(listed))
    unknown = dict.fromkeys(text for text in texts if not is_known(text))
    if unknown:
        names = shortened([*map(repr, unknown)])
        logging.getLogger("nibt").warning("%s %s: these replacements are left out", UNKNOWN, names)


def explain_replacement(
    model: ModelSource, image: ImageSource, caption: str | Caption, candidates: Candidates | None, **options: Any
) -> Explanation:
    """Explain a caption against the replacement that changes its similarity most, with the ranking of all returned."""
    model = load_model(model)
    replacements = replace_words(model, image, caption, candidates, on_progress=listener())
    against = max(replacements, key=lambda item: abs(item.change)).caption
    ranking = rank(model, image, [caption, *(item.caption for item in replacements)])
    explanation = explain(model, image, caption, target="difference", against=against, **options)
    return replace(explanation, ranking=tuple(ranking))


def read_replacements(caption: str, candidates: object) -> list[tuple[Span, list[str]]]:
    """Return spans of a caption with their replacements, in the order of the caption."""
    words = list(WORD.finditer(caption))
    content = [word.span() for word in words if _is_content(word)]
    texts: list[tuple[Span, list[str]]] = []
    if isinstance(candidates, Mapping):
        for name, listed in candidates.items():
            spans = _spans_of(name, caption, words)
            texts += [(span, _everyday(caption, span) if listed is None else _read_texts(listed)) for span in spans]
    elif candidates is not None:
        texts = [(span, _read_texts(candidates)) for span in content]
    else:
        texts = [(span, _everyday(caption, span)) for span in content]
        texts += _negated_and_counted(caption, words)

    _check_replacements(texts, caption, is_named=isinstance(candidates, Mapping))
    return sorted(texts, key=lambda item: item[0])


def _spans_of(name: object, caption: str, words: Sequence[re.Match[str]]) -> list[Span]:
    """Return where a caption has a word, or words that are named together."""
    same = unicode_text("word to replace", name).lower()
    spans = [word.span() for word in words if word.group().lower() == same]
    if not spans:
        together = re.finditer(rf"(?<!\w){re.escape(same)}(?!\w)", caption, re.IGNORECASE)
        spans = [match.span() for match in together]

    if not spans or not same:
        names = shortened([repr(word.group()) for word in words], 20)
        raise BadInput(f"{name!r:.60} is not in the caption, which has the words {names}: name one of them")
    return spans


def _check_replacements(texts: Sequence[tuple[Span, list[str]]], caption: str, is_named: bool) -> None:
    """Check that each span has a replacement, and that there are not too many."""
    if not texts and not is_named:
        raise BadInput(
            f"the caption {caption!r:.80} has no content word to replace: name a word, as in {{'two': ['three']}} or "
            "--replace two=three"
        )
    if not texts or not all(listed for _, listed in texts):
        raise BadInput("there are no candidates: give at least one word, or for everyday nouns None or --replace auto")

    count = sum(len(listed) for _, listed in texts)
    if count > MOST_CAPTIONS:
        raise BadInput(
            f"there must be at most {MOST_CAPTIONS:,} changed captions (got {count:,}): give fewer candidates, or a "
            "mapping with fewer words"
        )


def _everyday(caption: str, span: Span) -> list[str]:
    """Return everyday nouns in the number of a word, without those of the caption."""
    words = {word.lower() for word in words_of_text(caption)}
    others = [noun for noun in NOUNS if not plurals(noun).union([noun]) & words]
    return list(map(plural, others)) if caption[slice(*span)].lower() in _COUNTED else others


def _read_texts(listed: object) -> list[str]:
    """Return candidates, each once."""
    return [*dict.fromkeys(read_caption(text, "replacement") for text in as_list(listed))]


def _is_content(word: "re.Match[str]") -> bool:
    return word.group().lower() not in FUNCTION_WORDS and any(map(str.isalpha, word.group()))


def _negated_and_counted(caption: str, words: "list[re.Match[str]]") -> Iterator[tuple[Span, list[str]]]:
    """Yield spans from the article, or the adjectives, to a noun, with negations and counts of the noun."""
    place = 0
    for content, group in groupby(words, _is_content):
        # a run of content words, such as adjectives with their noun, and the two words before it
        run = list(group)
        before = words[max(place - 2, 0) : place]
        place = place + len(run)

        article = before.pop() if before and before[-1].group().lower() in _DETERMINERS else None
        nouns = [word for word in run if word.group().lower() in _COUNTED.union(NOUNS)]
        if not content or not (nouns or article):  # without an article, only known nouns count as nouns
            continue

        noun = (nouns or run)[-1]
        first = run[0].start()
        start = (article or run[0]).start()
        end = noun.end()
        is_plural = noun.group().lower() in _COUNTED or (article and article.group().lower() not in _SINGULAR)
        counted = caption[first : noun.start()] + (noun.group() if is_plural else plural(noun.group()))
        without_article = caption[first:end]
        whole = caption[start].lower() + caption[start + 1 : end]
        negated = [f"no {without_article}", f"not {whole}"]
        yield (start, end), [*negated, *(f"{count} {counted}" for count in _COUNTS)]
        if before and before[-1].group().lower() == "with":
            yield before[-1].span(), ["without"]


def _changed(caption: str, span: Span, text: str) -> str:
    """Return the caption with another text in place of a span; its case, and the article before it, fit.

    A text with an article of its own takes the place of the article, too.
    """
    before = caption[: span[0]]
    old = caption[slice(*span)]
    article = re.search(r"(?<!\w)(an?|the)(\s+)$", before, re.IGNORECASE)
    if article and re.match(r"(?:an?|the)\s+\w", text, re.IGNORECASE):
        before = before[: article.start()]
        old = article[1]
    elif article and article[1].lower() != "the":
        fitting = with_article(text).partition(" ")[0]
        before = before[: article.start()] + _cased(fitting, article[1]) + article[2]

    return before + _cased(text, old) + caption[span[1] :]


def _cased(text: str, old: str) -> str:
    """Return a text that begins with a capital where the old one does."""
    return text[:1].upper() + text[1:] if old[:1].isupper() else text
