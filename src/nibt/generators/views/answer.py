"""The view of answers: the maps of the words of an answer."""

from torch import Tensor

from nibt.generators.results.answer import ANSWER_TARGETS, AnswerExplanation, is_change
from nibt.generators.results.answer_word import AnswerWord
from nibt.records import JsonObject
from nibt.report.image.words import WordsView
from nibt.report.request import sentence
from nibt.report.view import fixed, names_of, other_image, quoted
from nibt.types import RUNNER_UP

_STRONGEST = 3  # words that the row of an answer's word names


class AnswerView(WordsView, name="answer"):
    """The photograph once per word of the answer."""

    shows = AnswerExplanation
    place = 3
    text = "answer"

    def question(self, result: AnswerExplanation) -> str:
        if result.target["name"] == "difference":
            more = "more" if sum(word.value for word in result.words) >= 0 else "less"
            named = f"{quoted(result.answer)} a {more} likely answer to {quoted(result.prompt)}"
            first, second = names_of([image.source for image in result.images])
            return f"Why is {named} with {first} than with {other_image(first, second)}?"
        if not result.written:
            answered = f"{quoted(result.answer)} more or less likely as an answer to {quoted(result.prompt)}"
            return f"What makes {answered}{_rather(result)}?"
        return f"Why did the model answer {quoted(result.answer)} to {quoted(result.prompt)}{_rather(result)}?"

    def raised(self, result: AnswerExplanation) -> str:
        return f"{ANSWER_TARGETS[result.target['name']]} of the word"

    def target_line(self, result: AnswerExplanation) -> str:
        return f"target {result.target['name']}"

    def heading(self, result: AnswerExplanation) -> str:
        return result.prompt

    def strong(self, result: AnswerExplanation) -> str:
        text = super().strong(result)
        if result.target["name"] == "difference":
            text += f", difference {fixed(sum(word.value for word in result.words))}"
        return text

    def score(self, result: AnswerExplanation) -> tuple[str, float]:
        return "log-probability", sum(word.log_probability for word in result.words)

    def facts(self, result: AnswerExplanation) -> JsonObject:
        return {"target": dict(result.target)}

    def words_matter(self, result: AnswerExplanation) -> list[bool]:
        return [not word.image_hardly_matters for word in result.words]

    def errors(self, result: AnswerExplanation) -> list[Tensor | None]:
        return [None if word.error is None else word.error.grid for word in result.words]

    def parts(self, result: AnswerExplanation) -> list[Tensor | None]:
        decisive = result.decisive
        if decisive is None:
            return super().parts(result)
        return [decisive.cells if decisive.word in (None, number) else None for number in range(len(result.words))]

    def outline(self, result: AnswerExplanation) -> str:
        return super().outline(result) if result.decisive is None else f"Outline: {result.decisive_about}"

    def word_table(self, result: AnswerExplanation) -> JsonObject:
        return _answer_table(result)

    def adds_up(self, result: AnswerExplanation) -> bool:
        return result.adds_up

    def sums(self, result: AnswerExplanation) -> str:
        name = ANSWER_TARGETS[result.target["name"]]
        of_one = result.target["name"] == "log_probability"
        values = (f"{word.text} {word.log_probability if of_one else word.value:z.2f}" for word in result.words)
        return f"{name}: {', '.join(values)}"


def _rather(result: AnswerExplanation) -> str:
    """Return the alternative that each word is compared with."""
    against = result.target["options"].get("against")
    if against is None:
        return ""
    return (
        ", rather than with the second best words" if against == RUNNER_UP else f", rather than with {quoted(against)}"
    )


def _answer_table(result: AnswerExplanation) -> JsonObject:
    """Return the words of an answer, with what each took from the image, the prompt and the words before."""
    from nibt.report.html.view_text import signed_row  # pages are imported when one is written

    columns = {"against": [*result.alternatives]} if result.alternatives else {}
    for heading, values in result.columns.items():
        columns[heading] = signed_row(values) if is_change(heading) else [*map(fixed, values)]
    by_word = zip(result.words, zip(*columns.values(), strict=True), strict=True)
    images = "with this image, with a blank image, and the mean with other images"
    if "others" not in columns:
        images = "with this image, and with a blank image"
    units = {
        "log_probability": f"Log-probabilities in nats: {images}.",
        "logit_difference": "The difference is that of the logits of its first token and of the token in the column "
        "against.",
        "difference": "The difference is the log-probability with the first image minus that with the second, in nats.",
    }[result.target["name"]]
    units += f" {sentence(result.equation, capital=False)}" if result.equation else ""
    units += " The last column has the words of the prompt and of the answer that it took most from."
    rows = [(word.text, cells, _mostly(result, word)) for word, cells in by_word]
    return {"units": units, "headings": ("word", *columns, "most from words"), "rows": rows}


def _mostly(result: AnswerExplanation, word: AnswerWord) -> str:
    """Return the words before a word of an answer that it took most from."""
    from nibt.report.html.view_text import signed

    before = [*result.prompt_words, *(earlier.text for earlier in result.words)]
    scores = [*word.prompt.tolist(), *word.earlier.tolist()]
    errors = [] if word.error is None else [*word.error.prompt.tolist(), *word.error.earlier.tolist()]
    strongest = sorted(range(len(scores)), key=lambda place: -abs(scores[place]))[:_STRONGEST]
    mostly = []
    for place in strongest:
        error = f" \u00b1 {errors[place]:.2g}" if errors and errors[place] else ""
        if scores[place]:
            mostly.append(f"{before[place]} {signed(scores[place])}{error}")

    against = "less likely with this image" if word.image_contradicts else ""
    hardly = "the image hardly matters" if word.image_hardly_matters else against
    return "; ".join(filter(None, [hardly, ", ".join(mostly)]))
