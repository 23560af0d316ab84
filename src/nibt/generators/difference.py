"""Why an answer is more probable with one image than with another: the difference of two explanations."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from nibt.data.images import ImageInput, ImagePart, ImageSource, Region, side_by_side
from nibt.errors import BadInput, BadOption
from nibt.generators.forced import AnswerRequest
from nibt.generators.results.answer import AnswerExplanation, AnswerImage, ServerRecord
from nibt.generators.results.answer_word import AnswerWord, WordErrors
from nibt.progress import OnProgress, Progress
from nibt.results.attribution import image_fields
from nibt.results.notes import note_fields


def check_second(
    request: AnswerRequest, second: ImageInput, against: str | None, other_images: Sequence[ImageSource] | None
) -> None:
    """Check the other image of a difference, and that nothing else is compared."""
    image, *further = request.images
    if further:
        raise BadOption(f"against_image is for one image (got {len(request.images)}): leave it out")

    for name, value in (("against", against), ("other_images", other_images)):
        if value is not None:
            raise BadOption(f"{name} and against_image cannot both be set: leave one of them out")

    if image.digest == second.digest:
        raise BadInput(f"the image {second.source} is compared with itself: give another one")


def _requests_of_both(first: ServerRecord | None, second: ServerRecord | None) -> ServerRecord | None:
    """Return what a server was asked for both images."""
    if first is None or second is None:
        return None

    tokens = (first["tokens"], second["tokens"])
    return {
        "way": first["way"],
        "requests": first["requests"] + second["requests"],
        "tokens": None if None in tokens else sum(filter(None, tokens)),
        "noise": first["noise"] + second["noise"],
        "bounds": (first["bounds"] + second["bounds"]) / 2,
    }


def difference(first: AnswerExplanation, second: AnswerExplanation, images: Sequence[ImageInput]) -> AnswerExplanation:
    """Return the explanation of the log-probabilities with the first image minus those with the second one.

    All numbers of a word are subtracted, so that they add up to the difference as those of each image do. The map shows
    both images side by side, and has the scores of the second one with the other sign.
    """
    shapes = [one.grid.shape for one in (first, second)]
    if shapes[0] != shapes[1]:
        sizes = " and ".join(f"{rows} x {columns}" for rows, columns in shapes)
        raise BadInput(
            f"both images must have the same rows and columns of patches for the model (got {sizes}): resize one to "
            f"the size of the other, {first.size[0]} x {first.size[1]} pixels"
        )

    picture = side_by_side([*map(ImagePart, images, (first.region, second.region), shapes)])
    options = {
        "narrow": first.target["options"]["narrow"],
        "against_images": [second.source],
        "against_images_hash": [second.image_hash],
    }
    return replace(
        first,
        **image_fields(picture),
        region=Region(0.0, 0.0, *map(float, picture.size)),
        words=tuple(_minus(*words) for words in zip(first.words, second.words, strict=True)),
        images=AnswerImage.parts_of(picture),
        frames=0,
        processed_size=None,
        target={"name": "difference", "options": options},
        server=_requests_of_both(first.server, second.server),
        **note_fields(dict.fromkeys((*first.notes, *second.notes))),
    )


def _minus(word: AnswerWord, other: AnswerWord) -> AnswerWord:
    """Return a word with its numbers minus those with another image, which takes the place of other images."""
    return replace(
        word,
        with_other_images=other.log_probability,
        each_other_image=(),
        value=word.value - other.value,
        without={source: value - other.without[source] for source, value in word.without.items()},
        at_blank=word.at_blank - other.at_blank,
        grid=torch.cat([word.grid, -other.grid], 1),
        prompt=word.prompt - other.prompt,
        earlier=word.earlier - other.earlier,
        special=word.special - other.special,
        error=_both(word, other),
    )


def _both(word: AnswerWord, other: AnswerWord) -> WordErrors | None:
    """Return the errors of a difference; those of words add up at most, since both have the same draws."""
    first = word.error
    second = other.error
    if first is None or second is None:
        return None
    return WordErrors(
        torch.cat([first.grid, second.grid], 1),
        first.prompt + second.prompt,
        first.earlier + second.earlier,
    )


def half(report: OnProgress, number: int) -> OnProgress:
    """Return what reports the words with one of two images as a half of all."""

    def reported(progress: Progress) -> None:
        count = progress.total or 0
        report(Progress(number * count + progress.done, 2 * count))

    return reported
