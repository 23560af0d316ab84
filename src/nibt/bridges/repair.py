"""Training without parts of evidence that a model must not read: their cells are exchanged between images.

``part_cells`` finds the cells of the parts in the images of a training set, once. ``Exchange`` exchanges them in each
batch, in the training loop that you have.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import get_worker_info

from nibt.data.images import ImageSource, is_batch, read_image
from nibt.data.pair import Pair, image_text_pairs
from nibt.errors import BadInput, Unsupported
from nibt.evaluation.parts.groups import named_areas, shown_objects
from nibt.evaluation.parts.space import Space, located
from nibt.evaluation.parts.used import check_model, chosen_parts, named_parts
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.options import BatchSize, ClosedShare, Positive, Seed, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.results.parts import ON_OBJECTS, Part, Parts, read_parts
from nibt.torch_modes import plain_torch

Pixels = Float[Tensor, "batch channel height width"]
Masks = Bool[Tensor, "image row column"]
TrainingImage: TypeAlias = ImageSource | Pair | tuple[Any, ...]
"""An image, or a pair of an image and its caption, which may have masks of the objects."""
_TOGETHER = 256  # images that are in memory together


@dataclass(frozen=True, eq=False)
class PartCells:
    """The cells of parts in the images of a training set, as ``part_cells`` finds them.

    Attributes:
        masks: Whether each cell of each image belongs to the parts, (image, row, column).
        size: The height and the width of the images as the model takes them, in pixels.
    """

    masks: Masks
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not _are_masks(self.masks) or not len(self.masks):
            raise BadInput(
                "masks must be a bool tensor of (image, row, column), with one image at least "
                f"(got {_described(self.masks)}): part_cells finds them"
            )

        rows, columns = self.masks.shape[1:]
        is_size = (
            isinstance(self.size, tuple) and len(self.size) == 2 and all(isinstance(side, int) for side in self.size)
        )
        if not is_size or self.size[0] < rows or self.size[1] < columns:
            raise BadInput(
                f"size must be the height and the width of the images in pixels, for {rows} x {columns} cells "
                f"(got {self.size!r:.60})"
            )

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, index: int) -> Bool[Tensor, "row column"]:
        """Return the mask of an image, which your data set returns together with the image."""
        return self.masks[index]

    def __repr__(self) -> str:
        having = int(self.masks.flatten(1).any(1).sum())
        cells = float(self.masks.float().mean())
        return f"cells of parts in {having} of {len(self)} images, {cells:.1%} of all cells"


@plain_torch()
def part_cells(
    model: ModelSource,
    images: Sequence[TrainingImage],
    parts: Parts | str | Path,
    numbers: int | Sequence[int] | None = None,
    *,
    reach: float = 1.5,
    batch_size: int = 16,
    on_progress: OnProgress | None = None,
) -> PartCells:
    """Find the cells of parts in the images of a training set, before the training.

    In each image, the parts are completed: all cells within the reach of a part's center, and nearer to no other one,
    also those without a score. Cells that show a named object are left out, if you give pairs with masks or boxes. This
    takes one forward pass of the image tower per image.

    Args:
        model: The model in which the parts were found, before it is trained.
        images: The images of the training set, in its order, or pairs of images and captions.
        parts: The parts, or the path of their JSON file.
        numbers: The numbers of the parts. None means those with the mark ``must not``. Without any, it means all parts
            beside the objects that do not have the mark ``may``, if one of them is a shortcut: others may have the same
            cue in too few images for a verdict.
        reach: The largest distance from the center of a part, as a multiple of the distance within which 90 % of the
            part's own cells are. A larger one finds the part in more images, and also takes other cells.
        batch_size: The largest number of images that go through the model together.
        on_progress: Called with the number of images that are done.

    Returns:
        The masks of the images.

    Raises:
        BadInput: The parts are of another model, a part is a named object, no image has the parts, the parts cover all
            images, or an image cannot be read.
        BadOption: There is no part with that number, no part is a shortcut, or the model cuts an image to another grid
            than that of the parts.
        Unsupported: The image tower takes other inputs than pixels.
    """
    parts = read_parts(parts, "part_cells")
    chosen = chosen_parts(parts, numbers)
    if numbers is None and not chosen[0].mark:  # one is a shortcut
        beside = [part for part in parts.parts if part.on_objects is not None and part.on_objects < ON_OBJECTS]
        chosen = [part for part in beside if part.mark != "may"]

    reach = parsed("reach", reach, Positive)
    batch_size = parsed("batch_size", batch_size, BatchSize)
    report = reporter(on_progress)
    if not _is_list(images) or not len(images):
        raise BadInput(f"images must be a list of images of the training set (got {images!r:.60})")

    model = load_model(model).renewed()
    check_model(parts, model, "give the model of the parts, as it was before the training")

    space = Space.of(parts)
    space = replace(space, reaches=reach * space.reaches)
    masks = torch.zeros((len(images), *parts.grid), dtype=torch.bool)
    on_objects = {part.number - 1: np.zeros(2) for part in chosen}
    size = None
    for first, pairs in _chunks(images):
        size = size or _size(model, pairs[0])
        for item, places, region in located(model, [pair.image for pair in pairs], space, batch_size):
            objects = shown_objects(pairs[item], region, parts.grid)
            of_chosen = np.isin(places, [*on_objects])
            masks[first + item] = torch.from_numpy(of_chosen & ~objects)
            if named_areas(pairs[item]):
                for place, counts in on_objects.items():
                    is_part = places == place
                    counts += (is_part & objects).sum(), is_part.sum()
        report(Progress(first + len(pairs), len(images)))

    _check_no_object(chosen, on_objects)
    _check_cells(chosen, masks, reach)
    assert size is not None
    return PartCells(masks, size)


class Exchange:
    """Exchanges the cells of parts between the images of a batch, so that they say nothing of the captions.

    In a fraction of the images, the cells of their own parts and those of the parts of another image of the batch are
    replaced by the pixels of the other image. So the image loses its part, and gets that of the other image, also at
    another place. All other pixels stay as they are, bit for bit.

    The draws depend on the seed and the number of calls. In a worker process of a ``DataLoader``, they also depend on
    the seed of the worker. The global random state is neither read nor changed.

    Args:
        cells: The cells of the training set.
        fraction: The fraction of the images in which cells are exchanged, from 0 to 1; 1 means all that have the parts.
        seed: The seed of all draws.

    Raises:
        BadOption: The fraction or the seed is out of range.

    Examples:
        >>> masks = torch.zeros(2, 2, 2, dtype=torch.bool)
        >>> masks[:, 0, 0] = True
        >>> exchange = Exchange(PartCells(masks, (4, 4)), fraction=1.0)
        >>> pixels = torch.stack([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)])
        >>> exchange(pixels, masks)[0, 0]
        tensor([[1., 1., 0., 0.],
                [1., 1., 0., 0.],
                [0., 0., 0., 0.],
                [0., 0., 0., 0.]])
    """

    def __init__(self, cells: PartCells, fraction: float = 1.0, seed: int = 0) -> None:
        if not isinstance(cells, PartCells):
            raise BadInput(f"cells must be what part_cells returns (got {type(cells).__name__})")

        self.grid = tuple(cells.masks.shape[1:])
        self.size = cells.size
        self.fraction = parsed("fraction", fraction, ClosedShare)
        self.seed = parsed("seed", seed, Seed)
        self._stream: tuple[int, ...] = ()
        self._draws = np.random.default_rng((self.seed,))
        self._has_changed = False

    def __call__(self, pixels: Pixels, masks: Masks) -> Pixels:
        """Return the pixels of a batch with cells exchanged.

        Args:
            pixels: The images, as the model's processor prepares them: (batch, channel, height, width).
            masks: The masks of these images, in the same order: those of ``PartCells``, or, if you crop or flip the
                images, masks with a row and a column per pixel that you cropped and flipped likewise.

        Raises:
            BadInput: The batch has one image only, a tensor has another shape or dtype, or the exchange changes
                nothing, since the parts look the same in all images.
        """
        self._check(pixels, masks)
        draws = self._generator()
        count = len(pixels)
        is_drawn = torch.from_numpy(draws.random(count) < self.fraction).to(masks.device)
        steps = torch.from_numpy(draws.integers(1, count, count))
        donors = (torch.arange(count) + steps) % count  # never the image itself

        has_part = masks.flatten(1).any(1)
        either = masks | masks[donors.to(masks.device)]
        is_whole = either.flatten(1).all(1)  # the other image would get this caption
        is_exchanged = is_drawn & has_part & ~is_whole
        places = _of_pixels(either & is_exchanged[:, None, None], pixels.shape[-2:])
        changed = torch.where(places[:, None].to(pixels.device), pixels[donors.to(pixels.device)], pixels)

        if not self._has_changed:
            self._has_changed = not torch.equal(changed, pixels)
            exchanges = int(is_exchanged.sum())
            if not self._has_changed and exchanges > 1 and bool(has_part.all()):
                raise BadInput(
                    f"the parts are in all images of the batch, and look the same in all (got {exchanges} exchanges "
                    "that change no pixel): give part_cells the numbers of parts that differ between images"
                )

        return changed

    def _generator(self) -> np.random.Generator:
        """Return the generator of this process: workers have copies of this object, which must not draw alike."""
        worker = get_worker_info()
        stream = () if worker is None else (worker.seed,)
        if stream != self._stream:
            self._stream = stream
            self._draws = np.random.default_rng((self.seed, *stream))
        return self._draws

    def _check(self, pixels: object, masks: object) -> None:
        """Check the shapes and dtypes of a batch."""
        if not isinstance(pixels, Tensor) or pixels.ndim != 4 or not pixels.is_floating_point():
            raise BadInput(
                "pixels must be a floating-point tensor of (batch, channel, height, width), as the model's processor "
                f"prepares images (got {_described(pixels)})"
            )
        if len(pixels) < 2:
            raise BadInput(
                f"an exchange needs at least two images in a batch (got {len(pixels)}): set a larger batch size, and "
                "drop_last=True for the last batch"
            )
        if not _are_masks(masks) or len(masks) != len(pixels):
            raise BadInput(
                f"masks must be a bool tensor with a mask for each of the {len(pixels)} images, (batch, row, column) "
                f"(got {_described(masks)}): stack those that PartCells has for these images"
            )

        size = tuple(pixels.shape[-2:])
        shape = tuple(masks.shape[1:])
        if shape != size and (shape != self.grid or size != self.size):
            rows, columns = self.grid
            height, width = self.size
            raise BadInput(
                f"masks of {rows} x {columns} cells are of images of {height} x {width} pixels (got masks of "
                f"{shape[0]} x {shape[1]} and images of {size[0]} x {size[1]}): prepare images as the model's "
                "processor does, or give masks with a row and a column per pixel"
            )


def _is_list(images: object) -> bool:
    """Return whether images are in an order and can be counted, as in a list, a data set or a batch in one array."""
    if isinstance(images, np.ndarray | Tensor):
        return is_batch(images)
    return hasattr(images, "__len__") and not isinstance(images, str | bytes | bytearray | Set | Mapping)


def _chunks(images: Sequence[TrainingImage]) -> Iterator[tuple[int, list[Pair]]]:
    """Yield images as pairs, some at a time, with the position of the first."""
    items = iter(images)
    for first in range(0, len(images), _TOGETHER):
        yield first, [_pair(item) for item in islice(items, _TOGETHER)]


def _pair(item: TrainingImage) -> Pair:
    """Return an image without a caption as a pair, too."""
    if isinstance(item, Pair | tuple):
        return image_text_pairs([item], "part_cells")[0]
    return Pair(read_image(item), "")


def _size(model: Model, pair: Pair) -> tuple[int, int]:
    """Return the height and the width of the pixels that the model takes."""
    inputs = model.image.prepare([pair.image])
    if inputs.extra or inputs.values.ndim != 4:
        raise Unsupported(
            "this image tower takes patches instead of pixels, between which no cells can be exchanged: exchange the "
            "cells of the images before they are prepared"
        )
    return model.image.extent(inputs)


def _check_no_object(chosen: Sequence[Part], on_objects: dict[int, np.ndarray]) -> None:
    """Check that parts that were found without masks are beside the objects of the training set, if these are known."""
    for part in chosen:
        on_object, of_part = on_objects[part.number - 1]
        if part.on_objects is None and on_object >= ON_OBJECTS * of_part > 0:
            raise BadInput(
                f"part {part.number} is a named object ({on_object / of_part:.0%} of its cells in these images are on "
                "masks or boxes): exchanging it would teach the model to ignore the object; give parts beside it"
            )


def _check_cells(chosen: Sequence[Part], masks: Masks, reach: float) -> None:
    """Check that some images have the parts, and that these are not the whole images."""
    if not bool(masks.any()):
        raise BadInput(
            f"none of the {len(masks)} images has {named_parts(chosen)} within the reach {reach:g}: give a larger "
            "reach, or images like those that the parts are from"
        )
    if bool(masks.all()):
        raise BadInput(
            f"all cells of all {len(masks)} images are in {named_parts(chosen)}: exchanging them would exchange whole "
            "images, and teach the model wrong captions; give fewer parts"
        )


def _of_pixels(masks: Masks, size: Sequence[int]) -> Bool[Tensor, "image height width"]:
    """Return whether each pixel is in the cells of the masks. Pixels that fit no whole cell are in the last one."""
    for axis, length in enumerate(size, 1):
        cells = masks.shape[axis]
        places = torch.arange(length, device=masks.device) // (length // cells)
        masks = masks.index_select(axis, places.clamp(max=cells - 1))
    return masks


def _are_masks(value: object) -> TypeGuard[Tensor]:
    """Return whether a value is masks of images: a bool tensor of three dimensions."""
    return isinstance(value, Tensor) and value.ndim == 3 and value.dtype == torch.bool


def _described(value: object) -> str:
    """Return the dtype and the shape of a tensor, or the type of another value."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    shape = ", ".join(map(str, value.shape))
    return f"{str(value.dtype).removeprefix('torch.')} of ({shape})"
