"""The mean states of a model over your own images and captions, as the baseline ``mean:FILE``."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nibt.data.images import ImageInput, ImageSource, read_image
from nibt.data.pair import read_caption
from nibt.data.units import Words
from nibt.engine.encode import groups_of
from nibt.errors import BadInput, BadOption
from nibt.models._loading import load_model
from nibt.models._mean_states import MeanStates, caption_places, grid_fact
from nibt.models.base import Model, Tower
from nibt.outputs import check_targets
from nibt.progress import OnProgress, Progress, no_progress
from nibt.results.provenance import require_same_file
from nibt.torch_modes import plain_torch


@plain_torch()
def calibrate(
    model: Model | str | Path | nn.Module,
    images: Sequence[ImageSource],
    captions: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    on_progress: OnProgress = no_progress,
) -> MeanStates:
    """Compute the mean state at each layer and position; captions are aligned at their last word.

    The mean states belong to the weights of the model and to the grid of the images; those of a convolutional trunk,
    whose states do not depend on their position, serve any grid.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        images: The images; may be empty if there are captions.
        captions: The captions.
        out: The file to write, as safetensors.
        layers: Only these layers; None means all.
        batch_size: The largest number of inputs that go through the model together.
        overwrite: Replace a file at ``out`` that nibt did not write, or that answers another request.
        on_progress: Called after each batch with the number of inputs that are done.

    Raises:
        BadInput: There is nothing to average, or images have different grids.
        BadOption: There is no such layer.
        WouldOverwrite: A file is there that nibt did not write.
        OtherRequest: The file has the mean states of another model, or of other images, captions or layers.
        CannotWrite: The file cannot be written.

    """
    if not images and not captions:
        raise BadInput("there is nothing to calibrate with: give images, captions or both")
    if out is not None:
        sources = [Path(one) for one in (model, *images) if isinstance(one, str | Path)]
        check_targets([Path(out)], [path for path in sources if path.exists()], overwrite)
    model, texts = load_model(model), [read_caption(text) for text in captions]
    images = [read_image(image) for image in images]
    facts = _facts(model, images, texts, layers)
    if out is not None and not overwrite:
        require_same_file(Path(out), {name: value for name, value in facts.items() if name != "model"})
    count = _Count(len(images) + len(texts), on_progress)
    tensors: dict[str, Tensor] = {}
    if images:
        tensors |= _of_images(model.image, images, layers, batch_size, count)
        facts |= grid_fact(model.image, model.image.prepare(images[:1]))
    if captions:
        means, zero = _of_captions(model.text, texts, layers, batch_size, count)
        tensors, facts = tensors | means, facts | {"zero": str(zero)}
    states = MeanStates(tensors, facts)
    if out is not None:
        states.save(out, overwrite)
    return states


@dataclass
class _Count:
    """Counts finished items, and reports them."""

    total: int
    on_progress: OnProgress
    done: int = 0

    def add(self, items: int) -> None:
        self.done += items
        self.on_progress(Progress(self.done, self.total))


def _facts(
    model: Model, images: Sequence[ImageInput], captions: Sequence[str], layers: Sequence[int] | None
) -> dict[str, str]:
    """What the file says of how it was made: the model, how it takes images, and digests of what was averaged."""
    return {
        "schema": "1",
        "model": model.id,
        "weights_hash": model.weights_hash,
        "configuration_hash": model.configuration_hash,
        "resize": model.record()["resize"],
        "image_size": str(model.record()["image_size"]),
        "layers": "all" if layers is None else ",".join(map(str, layers)),
        "images": str(len(images)),
        "pictures_hash": sha256("".join(image.digest for image in images).encode()).hexdigest()[:16],
        "captions": str(len(captions)),
        "captions_hash": sha256(json.dumps(list(captions)).encode()).hexdigest()[:16],
    }


def _layers(tower: Tower, layers: Sequence[int] | None) -> Sequence[int]:
    if layers is None:
        return range(tower.depth + 1)
    if not layers:
        raise BadOption("layers is empty: name at least one, or leave it out for all")
    for layer in layers:
        tower.check_layer(layer)
    return layers


def _of_images(
    tower: Tower, images: Sequence[Any], layers: Sequence[int] | None, size: int, count: "_Count"
) -> dict[str, Tensor]:
    groups = [tower.group(image) for image in images]
    if tower.positional and len(set(groups)) > 1:
        raise BadInput(
            f"the images have {len(set(groups))} different grids, and this tower's states mean their place: "
            "calibrate with images of one shape"
        )
    sums: dict[int, Tensor] = {}
    for indices in groups_of(groups, size):
        trace = tower.trace(tower.prepare([images[index] for index in indices]))
        for layer in _layers(tower, layers):
            hidden = trace.cut(layer).hidden.double()
            state = hidden.sum(0) if tower.positional else hidden.mean(1).sum(0)
            sums[layer] = sums.get(layer, torch.zeros_like(state)) + state
        count.add(len(indices))
    return {f"image.mean.{layer}": (total / len(images)).float().cpu() for layer, total in sums.items()}


def _of_captions(
    tower: Tower, captions: Sequence[str], layers: Sequence[int] | None, size: int, count: "_Count"
) -> tuple[dict[str, Tensor], int]:
    """Means by distance from the last word, and by place for the rows before the first word."""
    after: dict[tuple[int, int], list[Any]] = defaultdict(lambda: [0, 0.0])
    before: dict[tuple[int, int], list[Any]] = defaultdict(lambda: [0, 0.0])
    for indices in groups_of([None] * len(captions), size):
        trace = tower.trace(tower.prepare([captions[index] for index in indices]))
        for layer in _layers(tower, layers):
            cut = trace.cut(layer)
            assert isinstance(cut.units, Words)
            placed = caption_places(cut.units, cut.hidden.shape[1])
            for hidden, places, first in zip(cut.hidden.double().cpu(), *placed, strict=True):
                for row, (state, place) in enumerate(zip(hidden, places.tolist(), strict=True)):
                    entry = before[layer, row] if row < first else after[layer, place]
                    entry[0], entry[1] = entry[0] + 1, entry[1] + state
        count.add(len(indices))
    low = min(place for _, place in after)
    tables = {}
    for layer in _layers(tower, layers):
        tables[f"text.mean.{layer}"] = _table(after, layer)
        firsts = _table(before, layer)
        tables[f"text.first.{layer}"] = firsts if len(firsts) else tables[f"text.mean.{layer}"][:0]
    return tables, -low


def _table(entries: dict[tuple[int, int], list[Any]], layer: int) -> Tensor:
    means = {place: total / count for (own, place), (count, total) in entries.items() if own == layer}
    return torch.stack([means[place] for place in sorted(means)]).float() if means else torch.zeros(0)
