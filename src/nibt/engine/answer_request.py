"""What is asked about an answer: the image, the prompt, and the answer or the number of words that the model writes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nibt.data.images import ImageInput, ImageSource, read_image
from nibt.data.pair import MOST_CHARACTERS, as_list, too_long
from nibt.engine.forced_answers import ForcedAnswer
from nibt.errors import BadInput, BadOption
from nibt.io import unicode_text
from nibt.models._answers import AnswerTower, Generator, Prompted
from nibt.options import BatchSize, parsed
from nibt.preprocessing.hugging_face import special_tokens
from nibt.results.explanation import shortened


@dataclass(frozen=True)
class AnswerRequest:
    """Images, a prompt and the answer to it, or the largest number of words that the model writes."""

    images: tuple[ImageInput, ...]
    prompt: str
    answer: str | None
    most: int

    @classmethod
    def of(
        cls, image: ImageSource | Sequence[ImageSource], prompt: str, answer: str | None, max_words: int | None
    ) -> "AnswerRequest":
        """Check what needs no model."""
        most = parsed("max_words", 30 if max_words is None else max_words, BatchSize)
        if answer is not None and max_words is not None:
            raise BadOption("max_words is for answers that the model writes: leave it out with a given answer")
        images = tuple(map(read_image, as_list(image)))
        if not images:
            raise BadInput("there is no image (got an empty list): give at least one")
        read_words("prompt", prompt, empty=True)
        return cls(images, prompt, None if answer is None else read_words("answer", answer), most)

    def forced(self, generator: Generator) -> ForcedAnswer:
        """Return the answer, which the model writes if it is not given, with what comes before it."""
        tower, image = generator.answers.composed(self.images)
        prompted = Prompted(image, _prompt(self.prompt, tower))
        tokens = tower.write(prompted, self.most) if self.answer is None else tower.read(prompted, self.answer)
        if not tokens.words:
            raise BadInput(
                "the model wrote no word: give the answer that is to be explained, or another prompt"
                if self.answer is None
                else f"the answer {shortened([self.answer])} has no word for this model: give another one"
            )
        return ForcedAnswer(generator, tower, prompted, tokens)


def _prompt(prompt: str, tower: AnswerTower) -> str:
    """Check that there is a prompt if the model needs one, and none if it takes none."""
    text = read_words("prompt", prompt, empty=tower.prompts != "needed")
    if tower.prompts == "none" and text:
        raise BadInput(f"the prompt must be empty for this model, which describes images without one (got {text!r})")
    token = getattr(getattr(tower, "processor", None), "image_token", None)
    for piece in special_tokens(tower.tokenizer, len(tower.tokenizer)) - {token}:
        if piece in text and re.search("image|img|<row_", piece):
            raise BadInput(f"the prompt must not contain {piece!r}, a token by which the model reads images")
    return prompt if token and token in prompt else text  # a whole prompt may end with a line break


def read_words(name: str, text: Any, empty: bool = False) -> str:
    """Return a text without blanks around it."""
    if len(unicode_text(name, text)) > MOST_CHARACTERS:
        raise BadInput(too_long(name, text))
    if not text.strip() and not empty:
        raise BadInput(f"the {name} must not be empty (got {text!r})")
    return text.strip()
