"""Calibration: the mean hidden states of a model over your images and captions, for the baseline ``mean:FILE``."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nibt.data.images import ImageInput, ImageSource, read_image
from nibt.data.pair import as_list, read_caption
from nibt.data.units import Words
from nibt.engine.encode import groups_of, within_memory
from nibt.errors import BadInput, BadOption
from nibt.io import existing_paths, file_path
from nibt.models._loading import ModelSource, load_model
from nibt.models._mean_states import MeanStates, caption_places, grid_fact
from nibt.models.base import Model, Tower
from nibt.options import BatchSize, Layers, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.results.outputs import check_targets
from nibt.results.same_request import require_same_file
from nibt.torch_modes import plain_torch


@plain_torch()
def calibrate(
    model: ModelSource,
    images: Sequence[ImageSource],
    captions: Sequence[str] = (),
    out: str | Path | None = None,
    *,
    layers: Sequence[int] | None = None,
    batch_size: int = 8,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> MeanStates:
    """Compute the mean hidden state at each layer and position.

    Captions are aligned at their last word. The mean states are valid for the weights of the model and the grid of the
    images. The mean states of a convolutional trunk do not depend on the position, and are valid for any grid.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        images: The images, or a single one; may be empty if there are captions.
        captions: The captions, or a single one.
        out: The safetensors file to write; None writes no file.
        layers: The layers; None means all layers.
        batch_size: The largest number of inputs that go through the model together.
        overwrite: Replace a file at ``out`` that nibt did not write, or that has the results of another request.
        on_progress: Called after each batch with the number of inputs that are done.

    Returns:
        The mean states.

    Raises:
        BadInput: There are neither images nor captions, or images have different grids.
        BadOption: A layer does not exist.
        WouldOverwrite: ``out`` is a file that nibt did not write, and ``overwrite`` is false.
        OtherRequest: ``out`` has the mean states of another model, or of other images, captions or layers.
        CannotWrite: The file cannot be written.
    """
    report = reporter(on_progress)
    images = as_list(images)
    captions = as_list(captions)
    if not images and not captions:
        raise BadInput(
            "there is nothing to calibrate with (got no images and no captions): give images, captions or both"
        )

    if out is not None:
        named = [str(source) for source in (model, *images) if isinstance(source, str | Path)]
        check_targets([file_path("out", out)], [path for text in named for path in existing_paths(text)], overwrite)

    batch_size = parsed("batch_size", batch_size, BatchSize)
    layers = _parsed_layers(layers)

    model = load_model(model)
    model.image.check_states("calibrate")
    texts = [read_caption(text) for text in captions]
    images = [read_image(image) for image in images]
    facts = _facts(model, images, texts, layers)
    if out is not None and not overwrite:
        require_same_file(Path(out), {name: value for name, value in facts.items() if name != "model"})

    total = len(images) + len(texts)
    finished: list[int] = []

    def count(items: int) -> None:
        finished.append(items)
        report(Progress(sum(finished), total))

    tensors: dict[str, Tensor] = {}
    if images:
        tensors |= _of_images(model.image, images, layers, batch_size, count)
        facts |= grid_fact(model.image, model.image.prepare(images[:1]))

    if texts:
        means, zero = _of_captions(model.text, texts, layers, batch_size, count)
        tensors |= means
        facts["zero"] = str(zero)

    states = MeanStates(tensors, facts, [model.id, *(image.source for image in images)])
    if out is not None:
        states.save(out, overwrite)
    return states


def _parsed_layers(layers: Sequence[int] | None) -> Sequence[int] | None:
    """Return the layers that are named, each once; None for all."""
    if layers is None:
        return None

    named: tuple[int, ...] = parsed("layers", list(layers) if isinstance(layers, range) else layers, Layers)
    if len(set(named)) < len(named):
        raise BadOption(f"layers must name each layer once (got {', '.join(map(str, named))})")
    return named


def _facts(
    model: Model, images: Sequence[ImageInput], captions: Sequence[str], layers: Sequence[int] | None
) -> dict[str, str]:
    """Return the metadata of the file: the model, its preprocessing, and digests of the images and captions."""
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
    for layer in layers:
        tower.check_layer(layer)
    return layers


def _of_images(
    tower: Tower, images: Sequence[ImageInput], layers: Sequence[int] | None, size: int, count: Callable[[int], None]
) -> dict[str, Tensor]:
    groups = [tower.group(image) for image in images]
    if tower.positional and len(set(groups)) > 1:
        raise BadInput(
            f"the images must have the same grid, since the states of this tower depend on the position (got "
            f"{len(set(groups))} grids): calibrate with images of one shape"
        )

    def summed(indices: Sequence[int]) -> dict[int, Tensor]:
        trace = tower.trace(tower.prepare([images[index] for index in indices]))
        states = {}
        for layer in _layers(tower, layers):
            hidden = trace.cut(layer).hidden.cpu().double()  # mps has no float64
            states[layer] = hidden.sum(0) if tower.positional else hidden.mean(1).sum(0)
        return states

    sums: dict[int, Tensor] = {}
    for indices, states in within_memory(groups_of(groups, size), summed):
        for layer, state in states.items():
            sums[layer] = sums.get(layer, torch.zeros_like(state)) + state
        count(len(indices))

    return {f"image.mean.{layer}": (total / len(images)).float().cpu() for layer, total in sums.items()}


def _of_captions(
    tower: Tower, captions: Sequence[str], layers: Sequence[int] | None, size: int, count: Callable[[int], None]
) -> tuple[dict[str, Tensor], int]:
    """Return the mean states of captions, and the index of the last word in them.

    The states are averaged by their distance from the last word and, before the first word, by their position. Padding
    that the model does not read is left out: its length depends on the other captions of a batch.
    """

    def placed(indices: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        inputs = tower.prepare([captions[index] for index in indices])
        trace = tower.trace(inputs)
        states = {}
        for layer in _layers(tower, layers):
            cut = trace.cut(layer)
            assert isinstance(cut.units, Words)
            is_read = tower.valid_tokens(inputs, cut.hidden).tolist()
            states[layer] = (cut.hidden.cpu().double(), is_read, *caption_places(cut.units, cut.hidden.shape[1]))
        return states

    # the number of states and their sum, by layer and distance from the last word, or by layer and position
    after: dict[tuple[int, int], list[Any]] = defaultdict(lambda: [0, 0.0])
    before: dict[tuple[int, int], list[Any]] = defaultdict(lambda: [0, 0.0])
    for indices, states in within_memory(groups_of([None] * len(captions), size), placed):
        for layer, of_layer in states.items():
            for hidden, is_read, places, first in zip(*of_layer, strict=True):
                for row, (state, place) in enumerate(zip(hidden, places.tolist(), strict=True)):
                    if not is_read[row]:
                        continue
                    entry = before[layer, row] if row < first else after[layer, place]
                    entry[0] += 1
                    entry[1] = entry[1] + state
        count(len(indices))

    low = min(place for _, place in after)
    tables = {}
    for layer in _layers(tower, layers):
        means, firsts = (
            [entries[key][1] / entries[key][0] for key in sorted(entries) if key[0] == layer]
            for entries in (after, before)
        )
        mean = torch.stack(means).float()
        tables[f"text.mean.{layer}"] = mean
        tables[f"text.first.{layer}"] = torch.stack(firsts).float() if firsts else mean[:0]

    return tables, -low
