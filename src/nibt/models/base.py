"""The contract of models: an image tower and a text tower, each a stem, a sequence of blocks and a head.

A family defines a few properties of its towers: the blocks, the head and the inputs of the head. Everything else is
implemented once, here and in ``_tower.py``. No forward pass is reimplemented: the model runs its own, the inputs of
every block are recorded, and the remaining blocks are replayed. The model is never changed: hooks exist only inside
``with``, under one lock per model object, and act only in the thread that set them (``torch_modes``).
"""

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.data.images import ImageInput, ImageSource
from nibt.data.pair import Caption, modality, read_item
from nibt.data.units import Grid, Units
from nibt.errors import Unsupported
from nibt.models._inputs import Inputs, See
from nibt.models._loaded import LoadedModel
from nibt.models._text_tower import TextTower
from nibt.models._tower import Tower, part
from nibt.preprocessing.images import Preparation, Surroundings
from nibt.records import JsonObject
from nibt.targets.base import ClassLogit, CosineSimilarity, Similarity
from nibt.torch_modes import plain_torch, set_hook
from nibt.types import Hidden, Modality


class ImageTower(Tower[ImageInput]):
    """Base class of image towers. All pixels of the blank image have ``blank_value``."""

    modality = "image"
    shiftable = True
    blend_width: ClassVar[float] = 1.2
    """The half width, in units, of the triangle that smooths the first map minus the mean of the maps of all views."""
    preparation: Preparation

    @cached_property
    def blank_value(self) -> float:
        """The value of the pixels of a blank image: the mean color is 0 after normalization."""
        preparation = getattr(self, "preparation", None)  # towers that prepare images in another way have none
        return 0.0 if preparation is None else preparation.blank

    @cached_property
    def first_weight(self) -> Tensor:
        for module in self.root.modules():
            if isinstance(module, nn.Conv2d) and module.weight.is_floating_point():
                return module.weight  # of the patches or the first feature map; text towers have no such layer
        return self.example

    def group(self, item: ImageInput) -> Hashable:
        return self.preparation.resize.size(item.pil_image.size)

    def prepare(self, items: Sequence[ImageInput]) -> Inputs:
        pixels, regions, notes = zip(*map(self.preparation.seen, items), strict=True)
        first = self.first_weight
        return Inputs(
            torch.stack(pixels).to(first.device, torch.promote_types(first.dtype, torch.float32)),
            around=tuple(Surroundings(self.preparation, item) for item in items),
            regions=regions,
            notes=notes,
        )

    entry = part("blocks", itemgetter(0))
    """The module that takes the first tokens: the norm before the blocks, if there is one."""

    def on_first_tokens(self, see: See) -> RemovableHandle:
        def before(_: nn.Module, args: tuple) -> tuple | None:
            tokens = see(args[0])
            return None if tokens is None else (tokens, *args[1:])

        return set_hook(self.entry.register_forward_pre_hook, before)

    def unmixed(self) -> AbstractContextManager[None]:
        """Make each of the first tokens depend only on what its unit shows inside ``with``."""
        return nullcontext()

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        """Return the height and the width of the tower's input in pixels."""
        height, width = inputs.values.shape[-2:]
        return height, width

    def shifted(self, inputs: Inputs, shifts: Sequence[tuple[int, int]]) -> Inputs:
        """Return a batch of views, one of all items after the other, through a window shifted down and to the right.

        The window shows what lies around the crop of the model; where the image ends, it is blank. Within
        the crop it shows ``inputs.values``, even if they were changed.
        """
        height, width = inputs.values.shape[-2:]
        margin = max((abs(step) for shift in shifts for step in shift), default=0)
        wide = F.pad(inputs.values, (margin,) * 4, value=self.blank_value)
        for row, around in enumerate(inputs.around):
            if around.uncropped_pixels is not None:
                wide[row] = around.pixels(margin).to(wide)

        wide[..., margin : margin + height, margin : margin + width] = inputs.values
        windows = [
            wide[..., margin + down : margin + down + height, margin + right : margin + right + width]
            for down, right in shifts
        ]
        return replace(inputs.take(list(range(len(inputs.values))) * len(shifts)), values=torch.cat(windows))

    def pixel_weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return a weight per pixel in the layout of the tower's inputs."""
        return keep[:, None].to(inputs.values)

    def mask_pixels(
        self, inputs: Inputs, keep: Float[Tensor, "batch height width"], behind: Tensor | None = None
    ) -> Inputs:
        """Blend the share ``1 - keep`` of each pixel with what is ``behind`` it; None is the blank image."""
        values = inputs.values * self.pixel_weights(inputs, keep)
        if behind is None and self.blank_value:  # that of most towers is 0, which adds nothing
            behind = torch.full_like(values, self.blank_value)
        if behind is not None:
            values = values + behind * self.pixel_weights(inputs, 1 - keep)
        return replace(inputs, values=values)

    def blank_inputs(self, inputs: Inputs) -> Inputs:
        """Return blank images in place of those of a batch."""
        return replace(inputs, values=torch.full_like(inputs.values, self.blank_value))

    def empty_inputs(self) -> Inputs:
        blank = ImageInput(Image.new("RGB", (64, 64)), "blank")  # its color does not matter
        return self.blank_inputs(self.prepare([blank]))

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        # blank images of one size, with the same further inputs, have the same states
        of_extra = ((name, *value[0].flatten().tolist()) for name, value in inputs.extra.items())
        key = (inputs.values.shape[1:], *of_extra)
        state = self._blank_state(key, lambda: self.blank_inputs(inputs.take([0])), layer)
        return state.expand(len(inputs.values), -1, -1)


class FeatureMapTower(ImageTower):
    """Base class of image towers whose hidden states have the shape (batch, channel, row, column).

    Each feature map that enters a block is a layer, and so is the output of the last block, which is the default layer.
    """

    positional = False
    mapped = False
    distributes = False
    offers = frozenset({"states", "stem"})

    def relative(self, share: float) -> int:
        return self.depth

    def to_tokens(self, stream: Tensor) -> Hidden:
        return stream.flatten(2).transpose(1, 2)

    def to_stream(self, tokens: Hidden, like: Tensor) -> Tensor:
        return tokens.transpose(1, 2).unflatten(2, like.shape[-2:])

    def in_layout(self, inputs: Inputs) -> Inputs:
        # on a processor, convolutions of a batch are faster with channels last, depthwise ones most
        if inputs.values.device.type != "cpu":
            return inputs
        return replace(inputs, values=inputs.values.contiguous(memory_format=torch.channels_last))

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*stream.shape[-2:])


@dataclass(frozen=True, eq=False, repr=False)
class Model(LoadedModel):
    """A CLIP-like model: two towers with one embedding space.

    Attributes:
        id: The name or path of the model.
        family: The name of its family.
        module: The PyTorch module.
        image: The image tower.
        text: The text tower.
        scale: The scale of its logits.
        bias: The bias of its logits.
        folder: The folder of a local or embedded model.
        request: The options with which it was loaded.
    """

    image: ImageTower
    text: TextTower
    scale: float
    bias: float = 0.0
    similarity: Similarity = field(default_factory=CosineSimilarity)
    """How embeddings are compared, seen from the image side."""
    has_logits: bool = True
    """Whether the model has a scale that turns similarities into logits; if not, ``scale`` is 1."""
    defaults: JsonObject = field(default_factory=dict)
    """Recommended values of options, such as ``image_layer``."""

    @property
    def towers(self) -> tuple[ImageTower, TextTower]:
        return self.image, self.text

    def _towers_anew(self, family: Any) -> tuple[ImageTower, TextTower]:
        for name, value in zip(("scale", "bias"), family.finite_scale_and_bias(self.module), strict=True):
            object.__setattr__(self, name, value)
        return family.towers(self.module, self.request)

    @cached_property
    def item_ndim(self) -> int:
        return self.similarity.item_ndim

    @property
    def is_classifier(self) -> bool:
        """Whether the texts are classes of the model, whose logits are explained."""
        return isinstance(self.similarity, ClassLogit)

    @property
    def is_fused(self) -> bool:
        """Whether one network reads both sides, so that there are no embeddings to compare."""
        return self.similarity.fuses

    def tower(self, modality: Modality) -> Tower:
        """Return the tower of a side."""
        return self.image if modality == "image" else self.text

    def seen_from(self, modality: Modality) -> Similarity:
        """Return how embeddings are compared, seen from a side."""
        return self.similarity if modality == "image" else self.similarity.swapped()

    @plain_torch()
    def attentions(self, item: ImageSource | Caption) -> list[Float[Tensor, "head query key"]]:
        """Compute the attention weights of every block for an image or a caption.

        Args:
            item: An image or a caption. A string that names a file, an address or a sample is an image, and any other
                string is a caption. To be explicit, use ``Path`` or ``Caption``.

        Returns:
            The weights of each block, (head, query, key), whose rows add up to 1, and last those of a head that pools
            by attention. Queries and keys are the tokens of the tower, special tokens and padding included.

        Raises:
            BadInput: The image or the caption cannot be read.
            Unsupported: The tower has no attention over all of its tokens, such as a convolutional or windowed tower.

        Examples:
            >>> import nibt
            >>> weights = nibt.load_model("scenes").attentions("sample:scene")
            >>> len(weights), tuple(weights[0].shape)
            (12, (4, 65, 65))
        """
        content = read_item(item)
        tower = self.tower(modality(content))
        if "attention" not in tower.offers:
            raise Unsupported(
                f"this {tower.called} has no attention over all of its tokens: use a model with a plain ViT"
            )

        from nibt.models._attention import record_attentions  # which other calls do not need

        records = record_attentions(tower.trace(tower.prepare([content]))).all
        return [record.weights[0].detach() for record in records]

    def _own_facts(self) -> JsonObject:
        if self.similarity.name != "cosine":
            return {"similarity": self.similarity.name}
        if getattr(self.module, "logit_bias", None) is None:  # only models that were trained with a sigmoid have it
            return {}
        return {"sigmoid": {"scale": self.scale, "bias": self.bias}}
