"""Words of answers as rows of a table."""

from nibt.generators.results.answer import AnswerExplanation
from nibt.generators.results.answer_word import AnswerWord
from nibt.records import JsonObject
from nibt.results.frames import Frame


class AnswerFrame(Frame, name="answer"):
    """The rows of an answer, one for each word."""

    shows = AnswerExplanation
    texts = ("prompt", "answer")

    def values(self, word: AnswerWord) -> JsonObject:
        """Return the numbers of a word of an answer."""
        names = (
            "log_probability",
            "with_blank_image",
            "with_other_images",
            "image_gain",
            "image_hardly_matters",
            "judgment",
        )
        values = {name: getattr(word, name) for name in (*names, "value", "at_blank", "special", "gap")}
        elsewhere = float("nan") if word.with_other_images is None else word.with_other_images
        shares = {f"{name}_share": share for name, share in word.shares.items()}
        return {"word": word.text, **values, "with_other_images": elsewhere, **shares}
