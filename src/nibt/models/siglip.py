"""SigLIP and SigLIP 2 from Hugging Face Transformers (Zhai et al., 2023; Tschannen et al., 2025).

There is no class token; the image head pools by attention. Captions are padded to the full length, and the head reads
the last row, which is usually padding. The models were trained without a mask of padding, and the tokenizers of the
released ones return none; if a tokenizer returns one, the model's documented call uses it, and so does nibt. The NaFlex
variants of SigLIP 2 take padded patches of any grid.
"""

from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid, Units
from nibt.models._family import class_names
from nibt.models._heads import DualEncoder
from nibt.models._hugging_face import HuggingFaceImageTower, HuggingFaceTextTower, one_row
from nibt.models._request import LoadRequest
from nibt.models._text_tower import TextTower
from nibt.models._tower import part
from nibt.models.base import ImageTower, Inputs
from nibt.options import Keywords
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import TOKENIZER_LOCK, Tokens
from nibt.torch_modes import float32_numbers
from nibt.types import Embedding, Hidden


class SigLIPImageTower(HuggingFaceImageTower):
    """The image tower of SigLIP, with a fixed patch size."""

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.vision.head(self.vision.post_layernorm(stream))


class NaFlexImageTower(ImageTower):
    """The image tower of SigLIP 2 NaFlex, with patches of any grid.

    It keeps the aspect ratio. The rows after the grid are padding.
    """

    root: Any
    shiftable = False

    def __init__(self, siglip: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = siglip
        self.vision = self.root.vision_model
        self.processor = request.image_processor
        hugging_face.check_resizing(None, request.image_size, 0, self.processor.patch_size)
        self.most = (request.image_size // self.processor.patch_size) ** 2 if request.image_size else None

    blocks = part("vision.encoder.layers", list)
    first_weight = part("vision.embeddings.patch_embedding.weight")

    def _patches(self, image: ImageInput) -> dict[str, Tensor]:
        options = {"max_num_patches": self.most} if self.most else {}
        with float32_numbers():
            return dict(self.processor(images=image.pil_image, return_tensors="pt", **options))

    def group(self, item: ImageInput) -> Hashable:
        return tuple(self._patches(item)["spatial_shapes"][0].tolist())

    def prepare(self, items: Sequence[ImageInput]) -> Inputs:
        patches = [self._patches(item) for item in items]
        pixels = torch.cat([item_patches["pixel_values"] for item_patches in patches])
        first = self.first_weight
        values = pixels.to(first.device, torch.promote_types(first.dtype, torch.float32))
        extra = {
            key: torch.cat([item_patches[key] for item_patches in patches]).to(values.device)
            for key in ("pixel_attention_mask", "spatial_shapes")
        }
        regions = tuple(Region(0.0, 0.0, *map(float, item.size)) for item in items)
        return Inputs(values, extra, regions=regions, notes=tuple(item.notes for item in items))

    def run(self, inputs: Inputs) -> Embedding:
        return self.root.get_image_features(inputs.values, **inputs.extra).pooler_output

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": inputs.extra["pixel_attention_mask"]}

    def valid_tokens(self, inputs: Inputs, hidden: Hidden) -> Bool[Tensor, "batch token"]:
        return inputs.extra["pixel_attention_mask"].bool()

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.vision.head(self.vision.post_layernorm(stream), extra["mask"])

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        return Grid(*self._grid(inputs))

    def _grid(self, inputs: Inputs) -> tuple[int, int]:
        rows, columns = inputs.extra["spatial_shapes"][0].tolist()
        return rows, columns

    def extent(self, inputs: Inputs) -> tuple[int, int]:
        rows, columns = self._grid(inputs)
        return rows * self.processor.patch_size, columns * self.processor.patch_size

    def pixel_weights(self, inputs: Inputs, keep: Float[Tensor, "batch height width"]) -> Tensor:
        """Return the weights in the shape (batch, patch, pixel x channel); padding has the weight 0."""
        size, (rows, columns) = self.processor.patch_size, self._grid(inputs)
        patches = keep.unflatten(2, (columns, size)).unflatten(1, (rows, size)).transpose(2, 3).flatten(3).flatten(1, 2)
        channels = inputs.values.shape[-1] // size**2
        padding = inputs.values.shape[1] - rows * columns
        return F.pad(patches.repeat_interleave(channels, -1), (0, 0, 0, padding)).to(inputs.values)


class SigLIPTextTower(HuggingFaceTextTower):
    """The text tower of SigLIP."""

    full = True

    @cached_property
    def lower(self) -> bool:
        """Whether captions are to be in lower case, and the tokenizer leaves that to its caller, as in SigLIP 2."""
        if not self.tokenizer.init_kwargs.get("do_lower_case"):
            return False
        with TOKENIZER_LOCK:
            return self.tokenizer("Cat").input_ids != self.tokenizer("cat").input_ids

    def tokens(self, caption: str) -> Tokens:
        return super().tokens(caption.lower() if self.lower else caption)

    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        masks = [row.mask for row in tokens]
        if not all(masks):  # as released
            return {}
        return {"attention_mask": torch.tensor(masks, device=ids.device)}

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.model.head(self.model.final_layer_norm(stream[:, -1]))

    def last(self, stream: Tensor, extra: dict[str, Tensor], args: tuple, kwargs: Keywords) -> Embedding | None:
        end = torch.full((len(stream),), stream.shape[1] - 1, device=stream.device)
        row = one_row(self.blocks[-1], stream, end, *args, **kwargs)
        return None if row is None else self.head(row, extra)


class SigLIP(DualEncoder):
    """The checkpoints of ``SiglipModel`` and ``Siglip2Model``."""

    @classmethod
    def towers(cls, module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        image = NaFlexImageTower if "Siglip2Model" in class_names(module) else SigLIPImageTower
        return image(module, request), SigLIPTextTower(module, request)
