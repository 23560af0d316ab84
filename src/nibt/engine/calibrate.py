"""The mean states of a model over pictures and captions of the user's own, for narrowing toward ``mean:FILE``."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nibt.data.images import ImageInput, ImageSource, read_image
from nibt.data.pair import read_caption
from nibt.data.units import Words
from nibt.engine.spec import batches
from nibt.errors import BadInput, BadOption
from nibt.models._loading import load_model
from nibt.models._mean_states import MeanStates, caption_places, grid_fact
from nibt.models.base import Model, Tower
from nibt.outputs import check_targets
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
    on_done: Callable[[], None] = lambda: None,
) -> MeanStates:
    """The mean state at every layer (or some), per position; captions are aligned at their last word.

    Written to ``out`` as safetensors where that is given; a file there that is not nibt's, or that has the mean states
    of another request, is replaced with ``overwrite`` only. The file is bound to the model's weights and to the grid
    of the pictures; for a convolutional trunk, whose states do not mean their place, it serves any grid.

    Raises:
        BadInput: there is nothing to average, or pictures have different grids.
        BadOption: there is no such layer.
        WouldOverwrite: a file is there that nibt did not write.
        OtherRequest: the file there has the mean states of another model, or of other pictures, captions or layers.
        CannotWrite: the file cannot be written.

    """
    if not images and not captions:
        raise BadInput("there is nothing to calibrate with: give pictures, captions or both")
    if out is not None:
        sources = [Path(one) for one in (model, *images) if isinstance(one, str | Path)]
        check_targets([Path(out)], [path for path in sources if path.exists()], overwrite)
    model, texts = load_model(model), [read_caption(text) for text in captions]
    pictures = [read_image(image) for image in images]
    facts = _facts(model, pictures, texts, layers)
    if out is not None and not overwrite:
        require_same_file(Path(out), {name: value for name, value in facts.items() if name != "model"})
    tensors: dict[str, Tensor] = {}
    if images:
        tensors |= _of_pictures(model.image, pictures, layers, batch_size, on_done)
        facts |= grid_fact(model.image, model.image.prepare(pictures[:1]))
    if captions:
        found, zero = _of_captions(model.text, texts, layers, batch_size, on_done)
        tensors, facts = tensors | found, facts | {"zero": str(zero)}
    states = MeanStates(tensors, facts)
    if out is not None:
        states.save(out, overwrite)
    return states


def _facts(
    model: Model, pictures: Sequence[ImageInput], captions: Sequence[str], layers: Sequence[int] | None
) -> dict[str, str]:
    """What the file says of how it was made: the model, how it takes pictures, and digests of what was averaged."""
    return {
        "schema": "1",
        "model": model.id,
        "weights_hash": model.weights_hash,
        "configuration_hash": model.configuration_hash,
        "fit": model.record()["fit"],
        "image_size": str(model.record()["image_size"]),
        "layers": "all" if layers is None else ",".join(map(str, layers)),
        "pictures": str(len(pictures)),
        "pictures_hash": sha256("".join(picture.digest for picture in pictures).encode()).hexdigest()[:16],
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


def _of_pictures(
    tower: Tower, pictures: Sequence[Any], layers: Sequence[int] | None, size: int, on_done: Callable[[], None]
) -> dict[str, Tensor]:
    groups = [tower.group(picture) for picture in pictures]
    if tower.positional and len(set(groups)) > 1:
        raise BadInput(
            f"the pictures have {len(set(groups))} different grids, and this tower's states mean their place: "
            "calibrate with pictures of one shape"
        )
    sums: dict[int, Tensor] = {}
    for indices in batches(groups, size):
        trace = tower.trace(tower.prepare([pictures[index] for index in indices]))
        for layer in _layers(tower, layers):
            hidden = trace.cut(layer).hidden.double()
            state = hidden.sum(0) if tower.positional else hidden.mean(1).sum(0)
            sums[layer] = sums.get(layer, torch.zeros_like(state)) + state
        for _ in indices:
            on_done()
    return {f"image.mean.{layer}": (total / len(pictures)).float().cpu() for layer, total in sums.items()}


def _of_captions(
    tower: Tower, captions: Sequence[str], layers: Sequence[int] | None, size: int, on_done: Callable[[], None]
) -> tuple[dict[str, Tensor], int]:
    """Means by distance from the last word, and by place for the rows before the first word."""
    after: dict[tuple[int, int], list[Any]] = defaultdict(lambda: [0, 0.0])
    before: dict[tuple[int, int], list[Any]] = defaultdict(lambda: [0, 0.0])
    for indices in batches([None] * len(captions), size):
        trace = tower.trace(tower.prepare([captions[index] for index in indices]))
        for layer in _layers(tower, layers):
            cut = trace.cut(layer)
            assert isinstance(cut.units, Words)
            placed = caption_places(cut.units, cut.hidden.shape[1])
            for hidden, places, first in zip(cut.hidden.double().cpu(), *placed, strict=True):
                for row, (state, place) in enumerate(zip(hidden, places.tolist(), strict=True)):
                    entry = before[layer, row] if row < first else after[layer, place]
                    entry[0], entry[1] = entry[0] + 1, entry[1] + state
        for _ in indices:
            on_done()
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
