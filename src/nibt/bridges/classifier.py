"""A model with captions as a module that maps pixels to similarities, as other packages expect models."""

import copy
from collections.abc import Mapping, Sequence
from operator import ge
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.images import ImageSource, read_image
from nibt.data.pair import as_list
from nibt.data.units import Grid, cells_of
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.methods.base import Method
from nibt.models._inputs import Inputs
from nibt.models._loaded import fingerprint
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.registry import MethodSpec
from nibt.results.attribution import Attribution
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, PerExample

Pixels = Float[Tensor, "batch channel height width"]


Targets: TypeAlias = int | Sequence[int] | np.ndarray | Tensor | None
"""The number of a caption, or one for each image; None means the only caption."""


class ZeroShotClassifier(nn.Module):
    """A zero-shot classifier: from prepared pixels to the similarity of each image with each caption.

    The model is neither copied nor changed. ``copy.deepcopy`` copies it, for packages that randomize weights.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        captions: The captions, one per class.

    Attributes:
        model: The loaded model.
        captions: The captions.

    Raises:
        Unsupported: The image tower takes other inputs than pixels, or compares sets of vectors.
    """

    @plain_torch()
    def __init__(self, model: ModelSource, captions: str | Sequence[str]) -> None:
        super().__init__()
        self.model: Model = load_model(model)
        self.captions = tuple(as_list(captions))
        if not self.captions or not all(isinstance(text, str) and text.strip() for text in self.captions):
            raise BadInput(f"captions must have at least one caption, and none that is empty (got {captions!r})")
        if self.model.item_ndim != 1:
            raise Unsupported(
                f"only models with one vector for an image have a classifier of captions (got {self.model.id}): use "
                "explain"
            )

        self.module, self._inputs = self.model.module, Inputs(torch.empty(0))
        self.eval()  # as the model is
        self._encoded: tuple[Any, Embedding] | None = None
        _ = self.embeddings

    @property
    def embeddings(self) -> Embedding:
        """The embeddings of the captions, computed again after the weights of the model were changed."""
        sums = fingerprint(self.model.module)[2]  # without hooks, which packages set for each of their forward passes
        if self._encoded is None or self._encoded[0] != sums:
            self._encoded = sums, encode(self.model.renewed().text, self.captions)
        return self._encoded[1]

    def prepare(self, images: Sequence[ImageSource]) -> Pixels:
        """Return the pixels of images, prepared as the model's own processor does.

        Args:
            images: Images: paths, PIL images, arrays or ``sample:NAME``.

        Raises:
            Unsupported: The image tower takes other inputs than pixels.
        """
        read = [read_image(image) for image in as_list(images)]
        if not read:
            raise BadInput("images must have at least one image (got none)")
        if len({self.model.image.group(image) for image in read}) > 1:
            raise BadInput("the model prepares these images in several sizes: prepare them one by one")

        inputs = self.model.image.prepare(read)
        if inputs.extra or inputs.values.ndim != 4:
            raise Unsupported("this image tower takes patches instead of pixels: it has no classifier")
        return inputs.values

    def forward(self, pixels: Pixels) -> Float[Tensor, "batch caption"]:
        """Compute the similarity of each image with each caption, with a graph from the pixels on.

        Raises:
            BadInput: The pixels have a wrong shape or dtype, or are not finite.
        """
        image = self.model.image
        pixels = self.checked(pixels)
        if torch.is_grad_enabled() and not pixels.requires_grad:  # pytorch-grad-cam needs a graph through the blocks
            pixels = pixels.detach().requires_grad_()
        self._inputs = Inputs(pixels.detach())
        with image.computing():
            embedding = image.after(image.run(Inputs(pixels)))
        return self.model.seen_from("image").to_each(embedding, self.embeddings.to(embedding))

    def train(self, mode: bool = True) -> "ZeroShotClassifier":
        """Stay in evaluation mode: in training mode, the loaded model would change."""
        return super().train(False)

    def checked(self, pixels: object) -> Pixels:
        """Return prepared pixels after a check of their shape, dtype and values."""
        shape = tuple(getattr(pixels, "shape", ()))
        least = (1, 3, *self.model.image.first_weight.shape[2:])
        fits = len(shape) == 4 and shape[1] == 3 and all(map(ge, shape, least))
        if not isinstance(pixels, Tensor) or not fits or pixels.dtype != torch.float32:
            raise BadInput(
                "pixels must be a float32 tensor of (batch, 3, height, width), at least "
                f"{' x '.join(map(str, least))}, as prepare returns (got "
                f"{getattr(pixels, 'dtype', type(pixels).__name__)} of {' x '.join(map(str, shape)) or 'no shape'})"
            )
        if not bool(pixels.isfinite().all()):
            raise BadInput("pixels must be finite (got NaN or infinity)")
        return pixels

    def blank(self, pixels: Pixels) -> Pixels:
        """Return the pixels of images that show nothing, the baseline of ``nib``."""
        return self.model.image.blank_inputs(Inputs(pixels)).values

    def layer(self, number: int) -> nn.Module:
        """Return the block whose output is a layer, for packages that take layers.

        Raises:
            BadOption: There is no such block.
        """
        blocks = self.model.image.blocks
        if not isinstance(number, int) or not 1 <= number <= len(blocks):
            raise BadOption(f"layer must be between 1 and {len(blocks)} (got {number})")
        return blocks[number - 1]

    def reshape_transform(self, states: Tensor) -> Float[Tensor, "batch channel row column"]:
        """Return the states of patches as a map with channels first, as pytorch-grad-cam expects them.

        They are those of the last forward pass, or of one that is running.
        """
        stream = states[0] if isinstance(states, tuple) else states
        if stream.ndim == 4:
            return stream
        if not len(self._inputs):
            raise BadInput("reshape_transform takes the states of a forward pass: call the classifier first")

        grid = cells_of(self.model.image.units(self._inputs, stream))
        return stream[:, list(grid.tokens)].transpose(1, 2).unflatten(2, (grid.rows, grid.columns))

    @plain_torch()
    def explain(
        self, pixels: Pixels, targets: Targets, method: str | MethodSpec | Method, options: Mapping[str, object]
    ) -> Attribution:
        """Compute the maps of a method of nibt for pixels and the number of a caption each."""
        self.model.renewed()  # packages randomize weights
        spec = MethodSpec.of(method, options=dict(options))
        numbers = self.numbers(targets, len(self.checked(pixels)))
        partners = self.embeddings[numbers].to(pixels.device)
        image = self.model.image
        compare = self.model.seen_from("image")

        def score(embedding: Tensor) -> PerExample:
            return compare(embedding, partners)

        side = Side(self.model, image.trace(Inputs(pixels.detach())), score)
        resolved = spec.instance or spec.method_class.configured(image, spec.variant, spec.options, self.model.defaults)
        resolved.check(image)
        attribution = resolved(side)
        if not isinstance(attribution.units, Grid):
            raise Unsupported(f"{spec.name} gives no map of the image")
        return attribution

    def numbers(self, targets: object, count: int) -> Int[Tensor, " batch"]:
        """Return the number of a caption for each of ``count`` images; None means the only caption.

        Raises:
            BadInput: A number is not that of a caption, or there are too many or too few.
        """
        if targets is None and len(self.captions) == 1:
            targets = 0
        try:
            numbers = torch.as_tensor(targets).reshape(-1)
        except (TypeError, ValueError, RuntimeError):
            numbers = torch.empty(0)

        if numbers.is_floating_point() or len(numbers) not in (1, count):
            raise BadInput(
                f"target must be the number of a caption, or one for each of {count} images (got {targets!r})"
            )
        if not bool(((numbers >= 0) & (numbers < len(self.captions))).all()):
            raise BadInput(f"target must be between 0 and {len(self.captions) - 1} (got {numbers.tolist()})")
        return numbers.long().expand(count).cpu()

    def spread(self, attribution: Attribution, pixels: Pixels) -> Float[Tensor, "batch 1 height width"]:
        """Return a score for each pixel: that of its patch, divided equally, so that the sum stays the same."""
        grid = cells_of(attribution.units)
        places = torch.arange(grid.count, dtype=torch.float32, device=attribution.scores.device)
        cells = F.interpolate(grid.unfold(places)[None, None], pixels.shape[-2:], mode="nearest").long()[0, 0]
        sizes = torch.bincount(cells.flatten(), minlength=grid.count)
        return (attribution.scores.float() / sizes)[:, cells][:, None]

    def __deepcopy__(self, memo: dict[int, object]) -> "ZeroShotClassifier":
        """Copy the model too, and find its towers anew."""
        request = self.model.request
        module = copy.deepcopy(self.module, memo)
        model = load_model(module, processor=request.processor, tokenizer=request.tokenizer)
        return ZeroShotClassifier(model, self.captions)
