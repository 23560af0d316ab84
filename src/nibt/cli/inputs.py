"""What is asked on a command line: which of the things are images and which captions, and of which model."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from nibt.cli.options import THE_PAPERS
from nibt.cli.output import stem
from nibt.errors import BadOption
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.results.explanation import Comparison, Explanation
    from nibt.types import Modality


@dataclass(frozen=True)
class CliItems:
    """What stands first and second in the pairs, as it was typed, and of which kind that is: each first goes with each
    second. Labels take the place of seconds.
    """

    firsts: list[str]
    seconds: list[str]
    places: "tuple[Modality, Modality]" = ("image", "text")

    @classmethod
    def read(
        cls, things: list[str], labelled: bool, compare_image: str | None = None, compare_caption: str | None = None
    ) -> "CliItems":
        """All that was typed beside the options.

        Raises:
            BadOption: what was typed does not go together.

        """
        if (compare_image is not None) + (compare_caption is not None) + labelled > 1:
            raise BadOption("--compare-image, --compare-caption and --labels exclude each other: give one of them")
        if compare_image is not None:
            return cls(things, [compare_image], ("image", "image"))
        if compare_caption is not None:
            _check_captions(things)
            return cls(things, [compare_caption], ("text", "text"))
        return cls(*split(things, labelled))

    @property
    def one_kind(self) -> bool:
        """Whether two images, or two captions, are compared."""
        return self.places[0] == self.places[1]

    @property
    def images(self) -> list[str]:
        """The images, as they were typed."""
        places = zip(self.places, (self.firsts, self.seconds), strict=True)
        return [item for place, items in places if place == "image" for item in items]

    @property
    def stems(self) -> tuple[list[str], list[str]]:
        """What the names of files are made of."""
        firsts, seconds = (
            [stem(thing) for thing in things] if place == "image" else things
            for place, things in zip(self.places, (self.firsts, self.seconds), strict=True)
        )
        return firsts, seconds or ["labels"]


class CliInputs:
    """The things, or an image and labels, all read before the model is loaded: a mistake is told at once."""

    def __init__(self, things: CliItems, labels: list[str], labelled: bool = False) -> None:
        from nibt.data.images import read_image
        from nibt.data.pair import Caption, read_caption
        from nibt.engine.explain import read_labels

        firsts, seconds = (read_image if place == "image" else read_caption for place in things.places)
        self.firsts: list[Any] = [firsts(thing) for thing in things.firsts]
        self.seconds: list[Any] = [seconds(thing) for thing in things.seconds]
        if things.places[0] == "text":
            self.firsts = [Caption(caption) for caption in self.firsts]
        self.labels = read_labels(labels) if labelled else []

    def answers(self, model: Any, quiet: bool, options: dict[str, Any]) -> "list[Explanation] | list[Comparison]":
        """Each first with each second, or with the labels."""
        from nibt.cli.progress import shown
        from nibt.engine.explain import explain as run
        from nibt.engine.explain import explain_labels

        if not self.seconds:
            answers = []
            with shown("explaining", quiet, len(self.firsts)) as on_progress:
                for image in self.firsts:
                    answers.append(explain_labels(model, image, self.labels, **options))
                    on_progress(Progress(len(answers)))
            return answers
        pairs = [(first, second) for first in self.firsts for second in self.seconds]
        with shown("explaining", quiet, len(pairs)) as on_progress:
            firsts, seconds = [first for first, _ in pairs], [second for _, second in pairs]
            return run(model, firsts, seconds, on_progress=on_progress, **options)


def split(things: list[str], labelled: bool = False, command: str = "explain") -> tuple[list[str], list[str]]:
    """Images and captions: the first is an image, and so is what follows and looks like one.

    >>> split(["a.jpg", "b.png", "a cat", "c.png"])
    (['a.jpg', 'b.png'], ['a cat', 'c.png'])

    """
    count = next((n for n, thing in enumerate(things) if n and not _is_image(thing)), len(things))
    images, captions = things[:count], things[count:]
    if not _is_image(things[0]) and any(map(_is_image, things[1:])):
        raise BadOption(f"images come first, and there is no image {things[0]!r}: nibt {command} IMAGE CAPTION")
    if labelled and captions:
        raise BadOption(f"with --labels there are no captions besides (got {captions[0]!r})")
    if not labelled and not captions:
        beside = " (or --labels FILE)" if command == "explain" else ""
        last = f" ({images[-1]!r} was taken for an image)" if len(images) > 1 else ""
        raise BadOption(f"give a caption, too{last}: nibt {command} IMAGE CAPTION{beside}")
    return images, captions


def _is_image(thing: str) -> bool:
    from nibt.data.images import is_url, names_image

    return thing.startswith("sample:") or is_url(thing) or names_image(thing) or os.path.isfile(thing)


def _check_captions(things: list[str]) -> None:
    """Refuse an image where every thing is a caption: hardly anybody means the name of a file as one."""
    for thing in things:
        if _is_image(thing):
            raise BadOption(
                f"with --compare-caption every thing is a caption, and {thing!r} is an image: nibt explain "
                "IMAGE CAPTION explains one with the other"
            )


def load(model: str | None, device: str, dtype: str, resize: str | None, image_size: int | None, quiet: bool) -> Any:
    """The model that was asked for, or lite, which is then named."""
    if model is None and not quiet:
        typer.echo(
            f"The model is lite, which ships with nibt and knows ImageNet's world. The paper's: -m {THE_PAPERS}",
            err=True,
        )
    return loaded(model or "lite", quiet, device=device, dtype=dtype, resize=resize, image_size=image_size)


def loaded(model: str, quiet: bool, **loading: Any) -> Any:
    """The model, with the time that loading takes on standard error."""
    from nibt.cli.progress import shown

    with shown(f"loading {model}", quiet):
        from nibt.models._loading import load_model

        return load_model(model, **loading)
