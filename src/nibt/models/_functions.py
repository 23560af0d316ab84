"""Models of which only two functions are known: one that embeds images, and one that embeds texts.

Nothing is known of their layers, so that methods that only change inputs explain them. Images keep their aspect ratio,
with about the area of a square of ``image_size`` pixels, and have eight cells a side. Words that are removed are left
out of the text.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from hashlib import sha256
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from torch import Tensor, nn

from nibt.data.units import Grid, Units, Word
from nibt.errors import CannotLoad, Unsupported
from nibt.models._checks import seeded_noise
from nibt.models._inputs import Inputs, See
from nibt.models._request import EmbedImages, EmbedTexts, LoadRequest
from nibt.models._text_tower import TextTower
from nibt.models._tower import Trace
from nibt.models.base import ImageTower, Model
from nibt.options import Keywords
from nibt.preprocessing.captions import WORD, Tokens, word_pieces
from nibt.preprocessing.images import Preparation, Resize
from nibt.types import Embedding, Hidden, PerToken

_Input = TypeVar("_Input", Image.Image, str)

IMAGE_SIZE = 224
CELLS = 8
"""The number of rows and of columns of the cells of a square image."""
_PROBES = ("a photo of a cat and a dog", "two red cars", "")
"""The texts whose embeddings identify the function; the last one is a caption without words."""
_NOISE = 1e-5  # of unit vectors that only rounding tells apart
_MEAN = torch.tensor([0.48, 0.46, 0.41])[:, None, None]  # about the mean color of photographs, which hides parts
_DEVIATION = torch.tensor([0.27, 0.26, 0.28])[:, None, None]


class FunctionModule(nn.Module):
    """A function as a module, and what it returns for inputs that never change, by which results are told apart."""

    probe: Tensor


class ImageFunction(FunctionModule, ABC):
    """A function of images."""

    @abstractmethod
    def embed_images(self, images: list[Image.Image]) -> Embedding:
        """Compute the embeddings of images."""


class EmbeddingFunctions(ImageFunction):
    """Two functions, one of images and one of texts."""

    def __init__(self, images: EmbedImages, texts: EmbedTexts) -> None:
        super().__init__()
        self.images = images
        self.texts = texts
        probes = [seeded_noise(), Image.new("RGB", (96, 64), (200, 60, 40))]
        of_images = self.embed_images(probes)
        of_texts = self.embed_texts(list(_PROBES))
        if of_images.shape[1] != of_texts.shape[1]:
            raise CannotLoad(
                f"the functions must return vectors of one length (got {of_images.shape[1]} of images and "
                f"{of_texts.shape[1]} of texts): give functions of one model"
            )

        for name, embeddings in (("images", of_images), ("texts", of_texts)):
            if torch.equal(embeddings[0], embeddings[1]):
                raise CannotLoad(
                    f"the function {name} must tell its inputs apart (got the same vector for two different {name}): "
                    "check that they reach the model"
                )

        self.register_buffer("probe", torch.cat([of_images, of_texts]))

        again = torch.cat([self.embed_images(probes), self.embed_texts(list(_PROBES))])
        self.noise = float((again - self.probe).norm(dim=-1).max())
        """The largest distance of the unit embeddings of one input that was given twice."""

    @property
    def notes(self) -> tuple[str, ...]:
        """A note if the same input has other embeddings when it is given again."""
        if self.noise < _NOISE:
            return ()
        text = f"the unit vectors of one input, given twice, differ by {self.noise:.2g}: smaller scores are noise"
        return (f"the functions are not deterministic, since {text}",)

    def embed_images(self, images: list[Image.Image]) -> Embedding:
        return _embeddings("images", self.images, images)

    def embed_texts(self, texts: list[str]) -> Embedding:
        """Compute the embeddings of texts."""
        return _embeddings("texts", self.texts, texts)


def _embeddings(name: str, function: Callable[[list[_Input]], object], items: list[_Input]) -> Embedding:
    """Call a function with a list, and return the unit vectors of what it must return: a finite vector for each item.

    They are copied, since a function may write its next answer to the same memory. Only their directions count, and the
    squares of short or long ones are no numbers in single precision.
    """
    returned = function(list(items))
    try:
        values = returned.detach().cpu() if isinstance(returned, Tensor) else torch.from_numpy(np.array(returned))
        embeddings = values.to(torch.float64, copy=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CannotLoad(
            f"the function {name} must return an array of a vector for each item of its list (got a "
            f"{type(returned).__name__} that is none: {error})"
        ) from error

    if embeddings.ndim != 2 or len(embeddings) != len(items) or not embeddings.shape[1]:
        raise CannotLoad(
            f"the function {name} must return an array of the shape ({len(items)}, dim) for {len(items)} items (got "
            f"{tuple(embeddings.shape)})"
        )

    lengths = embeddings.norm(dim=-1, keepdim=True)
    if not lengths.isfinite().all() or not lengths.all():
        raise CannotLoad(f"the function {name} must return finite vectors that are not zero (got others)")
    return (embeddings / lengths).float()


class FunctionTower:
    """What the towers of both functions share: a single state, which is the embedding, and no blocks."""

    offers = frozenset[str]()
    positional = False
    mapped = False
    distributes = False
    reads_units = True
    has_special_tokens = False
    root: Any

    @property
    def blocks(self) -> list[nn.Module]:
        """No blocks: the layers of the model are not known."""
        return []

    @property
    def example(self) -> Tensor:
        """A tensor of the device and the dtype of the embeddings."""
        return self.root.probe

    first_weight = example

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        """Return the embedding, which is the only row of the state."""
        return stream[:, 0]

    def on_first_tokens(self, see: See | None) -> NoReturn:
        """Refuse what needs the first tokens."""
        raise Unsupported("the layers of a model of two functions are not known: use a method that changes inputs")

    def trace(self: Any, inputs: Inputs, lowest: int = 0) -> Trace:
        """Compute the embeddings, which are the only state."""
        embedding = self.encode(inputs)
        return Trace(self, inputs, embedding, (), (embedding[:, None],))


class FunctionImageTower(FunctionTower, ImageTower):
    """The function of images as a tower, whose inputs are pixels."""

    root: ImageFunction

    def __init__(self, root: ImageFunction, image_size: int, cells: int = CELLS) -> None:
        super().__init__()
        self.root = root
        self.cell = max(1, image_size // cells)
        resize = Resize("whole", self.cell * cells, self.cell * cells, multiple=self.cell)
        self.preparation = Preparation(resize, _normalized, _normalized)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root.embed_images(self.images(inputs))

    def images(self, inputs: Inputs) -> list[Image.Image]:
        """Return the images that the function gets."""
        pixels = inputs.values * _DEVIATION + _MEAN
        rounded = (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        return [Image.fromarray(image.numpy()) for image in rounded]

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = self.extent(inputs)
        return Grid(height // self.cell, width // self.cell)


def _normalized(image: Image.Image) -> Tensor:
    """Return the pixels of an image, in which the mean color is 0."""
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255
    return (pixels - _MEAN) / _DEVIATION


class WordRemovalTower(FunctionTower, TextTower):
    """Base class of functions of texts whose words can be left out, each of which is a token."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root
        self._keep: PerToken | None = None

    @cached_property
    def pad(self) -> tuple[int, str]:
        """The id and the text of what is left out."""
        return 0, ""

    @property
    def embedder(self) -> nn.Module:
        """The function, since there is no table of embeddings."""
        return self.root

    @contextmanager
    def blend_to_padding(self, keep: PerToken) -> Iterator[None]:
        """Leave words out inside ``with``, of which half or less is kept."""
        with self.lock:
            self._keep = keep
            try:
                yield
            finally:
                self._keep = None

    def kept_ids(self, inputs: Inputs) -> Int[Tensor, "batch token"]:
        """Return the ids of texts, which are 0 for words that are left out."""
        ids = inputs.values
        if self._keep is None:
            return ids
        return ids.masked_fill(self._keep[:, : ids.shape[1]].to(ids.device) <= 0.5, 0)

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        state = self._blank_state("blank", self.empty_inputs, layer)
        return state.expand(len(inputs.values), -1, -1)


class WordPieceTower(WordRemovalTower):
    """A tower of texts whose tokens are words, with what stands before them."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__(root)
        self.pieces = {0: ""}
        """What each id stands for."""

    def tokens(self, caption: str) -> Tokens:
        words = tuple(Word(match.group(), (row,)) for row, match in enumerate(WORD.finditer(caption)))
        ids = []
        for piece in word_pieces(caption):
            number = 1 + int.from_bytes(sha256(piece.encode()).digest()[:7], "big")
            self.pieces[number] = piece
            ids.append(number)

        return Tokens(tuple(ids), tuple(word.text for word in words), (True,) * len(ids), words)

    def texts(self, ids: Int[Tensor, "batch token"]) -> list[str]:
        """Return the texts of ids, of which 0 stands for nothing."""
        return ["".join(self.pieces[number] for number in row).strip() for row in ids.tolist()]


class FunctionTextTower(WordPieceTower):
    """The function of texts as a tower."""

    root: EmbeddingFunctions

    def run(self, inputs: Inputs) -> Embedding:
        return self.root.embed_texts(self.texts(self.kept_ids(inputs)))


def model_of_functions(
    images: EmbedImages | None, texts: EmbedTexts | None, name: str | None, image_size: int | None
) -> Model:
    """Return the model that two functions make."""
    for argument, function in (("images", images), ("texts", texts)):
        if not callable(function):
            raise CannotLoad(
                f"{argument} must be a function that takes a list and returns an array of vectors (got "
                f"{function!r:.60}): give both images and texts"
            )

    assert images is not None
    assert texts is not None

    functions = EmbeddingFunctions(images, texts).eval()
    facts: Keywords = {"image_size": image_size or IMAGE_SIZE}
    model = Model(
        id=name or "functions",
        family="functions",
        module=functions,
        image=FunctionImageTower(functions, image_size or IMAGE_SIZE),
        text=FunctionTextTower(functions),
        scale=1.0,
        has_logits=False,
        request=LoadRequest(facts=facts, notes=functions.notes),
    )
    model.renewed().kept["checked"] = True
    return model
