"""The images and captions of a command line."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from nibt.cli.groups import OptionGroup
from nibt.cli.options import is_image
from nibt.cli.output import slug, stem
from nibt.cli.terminal import show_progress
from nibt.errors import BadInput, BadOption
from nibt.io import read_lines
from nibt.options import Keywords
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.engine.replace import Candidates
    from nibt.models.base import Model
    from nibt.results.explanation import Explanation
    from nibt.types import Modality


@dataclass(frozen=True, kw_only=True)
class InputOptions(OptionGroup, panel="Input"):
    """The arguments that name images and captions."""

    inputs: Annotated[
        list[str],
        Argument(
            metavar="IMAGE... CAPTION...",
            show_default=False,
            help="Images (files, or sample:NAME), then captions. Each image is explained with each caption. A gray "
            "image, such as a DICOM file, may have a window: scan.dcm#window=LEVEL,WIDTH.",
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class ExplainInputOptions(InputOptions):
    """The images and captions, and alternatives to captions."""

    labels: Annotated[
        Path | None,
        Option(help="A file with a label per line: rank the labels, and explain the best against the second best."),
    ] = None
    rank: Annotated[
        bool,
        Option(
            "--rank",
            help="Rank the images for each caption, or the captions of one image, and explain the best against the "
            "second best.",
        ),
    ] = False
    replace: Annotated[
        str | None,
        Option(
            metavar="auto|WORDS",
            help="Replace each word of the caption, and explain the caption against the replacement that changes the "
            "similarity most: auto (everyday nouns, negations, counts), words (dog,fox), or a file with one per line "
            "(words.txt, or any path with a slash). cat=dog,fox or cat=auto replaces only the word cat.",
        ),
    ] = None
    compare: Annotated[
        str | None,
        Option(
            metavar="IMAGE|CAPTION",
            help="Compare images with this image, instead of with captions; or captions with this caption.",
        ),
    ] = None


@dataclass(frozen=True)
class CliInputs:
    """The inputs of a command; pairs are all combinations of firsts and seconds."""

    firsts: list[Any]  # words of the command line; after ``read``, the images and captions that they name
    seconds: list[Any]
    modalities: "tuple[Modality, Modality]" = ("image", "text")
    ranked: Literal["labels", "images", "words", ""] = ""  # labels or images for each of the others; words of a caption
    words: "Candidates | None" = None

    @classmethod
    def of(cls, options: ExplainInputOptions) -> "CliInputs":
        """Sort the arguments of a command line into firsts and seconds."""
        modes = {
            "--compare": options.compare is not None,
            "--labels": options.labels is not None,
            "--rank": options.rank,
            "--replace": options.replace is not None,
        }
        if sum(modes.values()) > 1:
            raise BadOption(f"{' and '.join(filter(modes.get, modes))} exclude each other: give one of them")

        if options.compare is not None:
            return cls._of_comparison(options.inputs, options.compare)

        images, captions = split_inputs(options.inputs, options.labels is not None)
        if options.labels is not None:
            return cls(images, read_lines(options.labels), ranked="labels")
        if options.replace is not None:
            return cls(images, captions, ranked="words", words=_candidates(options.replace))
        if not options.rank:
            return cls(images, captions)

        if len(images) == len(captions) == 1:
            raise BadOption("--rank needs several images, or several captions of one image (got one of each)")
        return cls(images, captions, ranked="images" if len(images) > 1 else "labels")

    @classmethod
    def _of_comparison(cls, inputs: list[str], compared: str) -> "CliInputs":
        modality: Modality = "image" if is_image(compared) else "text"
        for item in inputs:
            if is_image(item) != (modality == "image"):
                raise BadOption(
                    f"--compare takes two images or two captions (got {item!r} and {compared!r}): for an image with a "
                    "caption, use nibt explain IMAGE CAPTION"
                )
        return cls(inputs, [compared], (modality, modality))

    @property
    def queries(self) -> tuple[list[Any], list[Any]]:
        """What candidates are ranked for, and these candidates."""
        return (self.seconds, self.firsts) if self.ranked == "images" else (self.firsts, self.seconds)

    @property
    def same_modality(self) -> bool:
        """Whether two images or two captions are compared."""
        return self.modalities[0] == self.modalities[1]

    @property
    def images(self) -> list[str]:
        """The images, as they are on the command line."""
        sides = zip(self.modalities, (self.firsts, self.seconds), strict=True)
        return [item for modality, items in sides if modality == "image" for item in items]

    @property
    def stems(self) -> list[str]:
        """The names of the pairs, from which names of output files are formed."""
        firsts = _names(self.firsts, self.modalities[0])
        seconds = _names(self.seconds, self.modalities[1])
        if self.ranked == "labels":
            return [f"{name}-labels" for name in firsts]
        if self.ranked == "images":
            return [f"{name}-images" for name in seconds]
        return [f"{first}-{second}" for first in firsts for second in seconds]

    def read(self) -> "CliInputs":
        """Return the inputs with images and captions that are read, before a model is loaded."""
        from nibt.data.images import read_image
        from nibt.data.pair import Caption, read_caption
        from nibt.engine.ranking import read_ranking

        read_first, read_second = (read_image if side == "image" else read_caption for side in self.modalities)
        firsts: list[Any] = [read_first(item) for item in self.firsts]
        seconds: list[Any] = [read_second(item) for item in self.seconds]

        # where a string may be an image or a caption, as for ``compare``, a caption is marked as one
        if self.modalities[0] == "text":
            firsts = [Caption(caption) for caption in firsts]
        if self.ranked == "images":
            seconds = [Caption(caption) for caption in seconds]

        inputs = replace(self, firsts=firsts, seconds=seconds)

        # rankings and replacements are read once here, for their errors alone, before the model is loaded
        if self.ranked == "words":
            from nibt.engine.replace import read_replacements

            for caption in seconds:
                read_replacements(caption, self.words)
        elif self.ranked:
            queries, candidates = inputs.queries
            read_ranking(queries[0], candidates)

        return inputs

    def explain(self, model: "Model", quiet: bool, options: Keywords) -> "list[Explanation]":
        """Explain each first with each second, or the best of the candidates for each of the others."""
        if not self.ranked:
            return self._explain_pairs(model, quiet, options)

        calls = self._calls(model)
        explanations = []
        with show_progress("explaining", quiet, len(calls)) as on_progress:
            for call in calls:
                explanations.append(call(**options))
                on_progress(Progress(len(explanations)))

        return explanations

    def _explain_pairs(self, model: "Model", quiet: bool, options: Keywords) -> "list[Explanation]":
        from nibt.engine.explain import compare, explain

        run: Any = compare if self.same_modality else explain
        firsts = [first for first in self.firsts for _ in self.seconds]
        seconds = self.seconds * len(self.firsts)
        with show_progress("explaining", quiet, len(firsts)) as on_progress:
            return run(model, firsts, seconds, on_progress=on_progress, **options)

    def _calls(self, model: "Model") -> "list[Callable[..., Explanation]]":
        """Return the calls that choose and explain the best of the candidates, for each of the others."""
        if self.ranked == "words":
            from nibt.engine.replace import explain_replacement

            return [
                partial(explain_replacement, model, image, caption, self.words)
                for image in self.firsts
                for caption in self.seconds
            ]

        from nibt.engine.ranking import explain_ranking

        queries, candidates = self.queries
        return [partial(explain_ranking, model, query, candidates) for query in queries]


def _names(items: list[str], modality: "Modality") -> list[str]:
    """Return the images or captions as parts of names of files."""
    return [slug(stem(item) if modality == "image" else item) for item in items]


def _candidates(text: str) -> "Candidates | None":
    """Read the value of ``--replace``: None for ``auto``, words, or a mapping of one word; a path is one of a file.

    >>> _candidates("dog,fox"), _candidates("cat=dog"), _candidates("auto"), _candidates("cat=auto")
    (['dog', 'fox'], {'cat': ['dog']}, None, {'cat': None})
    """
    word, equals, listed = (part.strip() for part in text.rpartition("="))
    if "=" in word and os.sep not in word:
        raise BadOption(f"--replace takes the words for one word (got {text!r}): for several, use nibt.replace_words")

    path = Path(listed)
    words = None
    if os.sep in listed or path.suffix == ".txt" or (path.suffix and os.path.exists(path)):
        words = _words_of_file(path)
    elif listed != "auto":
        words = [part.strip() for part in listed.split(",") if part.strip()]

    return {word: words} if equals else words


def _words_of_file(path: Path) -> list[str]:
    words = read_lines(path)
    for line in words:
        if "=" in line or "," in line:
            raise BadInput(f"{path} must have one word per line (got {line!r})")
    if not words:
        raise BadInput(f"{path} has no words: give one per line")
    return words


def split_inputs(items: list[str], labeled: bool = False, command: str = "explain") -> tuple[list[str], list[str]]:
    """Split arguments: the first and those after it that look like images are images, the others captions.

    >>> split_inputs(["a.jpg", "b.png", "a cat", "c.png"])
    (['a.jpg', 'b.png'], ['a cat', 'c.png'])
    """
    count = 1  # the first argument must be an image: if it does not look like one, its error names it
    while count < len(items) and is_image(items[count]):
        count += 1
    images = items[:count]
    captions = items[count:]

    if not is_image(items[0]) and any(map(is_image, items[1:])):
        raise BadOption(
            f"images must come before captions, and there is no image {items[0]!r}: nibt {command} IMAGE CAPTION"
        )
    if labeled and captions:
        raise BadOption(f"--labels cannot be combined with captions (got {captions[0]!r}): leave one of them out")
    if labeled or captions:
        return images, captions

    if not is_image(images[0]):
        raise BadOption(f"the image is missing: nibt {command} IMAGE CAPTION (got {images[0]!r})")

    last = f" ({images[-1]!r} was read as an image)" if len(images) > 1 else ""
    alternative = " (or --labels FILE)" if command == "explain" else ""
    raise BadOption(f"the caption is missing{last}: nibt {command} IMAGE CAPTION{alternative}")
