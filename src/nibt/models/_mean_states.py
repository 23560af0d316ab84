"""The mean states of a model, which serve as baselines, and their file.

The safetensors file has ``image.mean.K`` for image layer K, of shape (tokens, width), or (width,) for a tower whose
states do not depend on the position, and ``text.mean.K`` and ``text.first.K`` for text layer K. Captions differ in
length, so their rows are aligned at the last word: row ``zero + d`` of ``text.mean.K`` is the mean state d rows after
it. The rows before the first word are those of ``text.first.K``. The metadata identify the weights.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nibt.data.units import Grid, Words
from nibt.errors import WrongBaseline
from nibt.models.base import Inputs, Model, Tower
from nibt.results.outputs import unsigned, write_bytes
from nibt.results.tensor_files import tensor_file
from nibt.torch_modes import plain_torch
from nibt.types import Hidden, Modality

_KIND = "nibt mean states"
FILE_NAME = "mean_states.safetensors"
"""The name of the file of mean states in the folder of an embedded model."""


@dataclass(frozen=True)
class MeanStates:
    """Mean states by layer, and the facts that identify their model."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str] = field(default_factory=dict)
    sources: Sequence[str] = field(default=(), repr=False, compare=False)
    """The paths of the images, and the model: inputs, which ``save`` does not replace."""

    @classmethod
    @plain_torch()
    def load(cls, path: str | Path, model: Model) -> "MeanStates":
        """Load a file, and check that it belongs to the model."""
        if not Path(path).is_file():
            raise WrongBaseline(f"there is no file {str(path)!r} of mean states: create it with nibt calibrate")

        try:
            with safe_open(str(path), "pt") as opened:
                facts = opened.metadata() or {}
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}
        except SafetensorError as error:
            raise WrongBaseline(f"{str(path)!r} is not a file of mean states ({error})") from error

        if Path(path).parent != model.folder:  # the mean states of an embedded model ship with it
            _check(str(path), facts, model)
        return cls(tensors, facts)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the file atomically."""
        facts = {"signature": unsigned(self.facts), "kind": _KIND, **self.facts}
        write_bytes(Path(path), tensor_file(self.tensors, facts), [{"data": self.sources}], overwrite)

    def state(self, tower: Tower, inputs: Inputs, hidden: Hidden, layer: int) -> Hidden:
        """Return the mean state of each row of a batch at a layer, of the shape of ``hidden``."""
        key = f"{tower.modality}.mean.{layer}"
        if key not in self.tensors:
            raise WrongBaseline(
                f"the mean states have no layer {layer} of the {tower.modality} tower "
                f"(they have {', '.join(self.layers(tower.modality)) or 'none'}): calibrate it, or use another layer"
            )

        mean = self.tensors[key].to(hidden)
        if tower.modality == "text":
            return self._for_captions(mean, self.tensors[f"text.first.{layer}"].to(hidden), inputs, hidden)

        if mean.ndim == 2:
            self._check_grid(mean, hidden, grid_fact(tower, inputs))
        return mean.expand_as(hidden)

    def _check_grid(self, mean: Tensor, hidden: Hidden, grid: Mapping[str, str]) -> None:
        if mean.shape != hidden.shape[1:]:
            expected = f"of {len(mean)} tokens"
            actual = f"{hidden.shape[1]} tokens"
        elif self.facts.get("grid", grid["grid"]) != grid["grid"]:  # as many tokens in other rows and columns
            expected = f"of {self.facts['grid']}"
            actual = grid["grid"]
        else:
            return
        raise WrongBaseline(
            f"the mean states are for a grid {expected}, this image has {actual}: calibrate with such images"
        )

    def layers(self, modality: Modality) -> list[str]:
        """Return the calibrated layers of a side, in order."""
        layers = [key.rsplit(".", 1)[1] for key in self.tensors if key.startswith(f"{modality}.mean.")]
        return sorted(layers, key=int)

    def _for_captions(self, mean: Tensor, first: Tensor, inputs: Inputs, hidden: Hidden) -> Hidden:
        assert inputs.words is not None
        zero = int(self.facts["zero"])
        rows = []
        for offsets, start in zip(*caption_places(inputs.words, hidden.shape[1]), strict=True):
            row = mean[(offsets + zero).clamp(0, len(mean) - 1)]
            count = min(start, len(first))
            rows.append(torch.cat([first[:count], row[count:]]))

        return torch.stack(rows)


def _check(path: str, facts: Mapping[str, str], model: Model) -> None:
    if facts.get("kind") != _KIND:
        raise WrongBaseline(f"{path!r} is not a file of mean states: create it with nibt calibrate")
    if facts.get("weights_hash") != model.weights_hash:
        raise WrongBaseline(
            f"{path!r} belongs to the model {facts.get('model')} (weights {facts.get('weights_hash')}), and this is "
            f"{model.id} in {model.dtype} (weights {model.weights_hash}): calibrate this model"
        )


def grid_fact(tower: Tower, inputs: Inputs) -> dict[str, str]:
    """Return the grid of a batch of images as text, if states depend on the position."""
    if not tower.positional:
        return {}
    grid = tower.units(inputs, inputs.values)  # the same for all layers
    return {"grid": f"{grid.rows} x {grid.columns}"} if isinstance(grid, Grid) else {}


def caption_places(words: Words, rows: int) -> tuple[list[Tensor], list[int]]:
    """Return, for each caption, the offset of each row from the last word, and the row of the first word."""
    explained = words.explained
    lasts = [int(row.nonzero().max()) for row in explained]
    return [torch.arange(rows, device="cpu") - last for last in lasts], [int(row.nonzero().min()) for row in explained]


def mean_states(model: Model, path: str = "") -> MeanStates:
    """Return the mean states of a file, or those that ship with an embedded model."""
    if not path and model.folder is None:
        raise WrongBaseline(
            f"the model {model.id} ships no mean states: run nibt calibrate, and use baseline='mean:FILE'"
        )

    file = path or str(model.folder and model.folder / FILE_NAME)
    key = "mean states", file, os.path.getmtime(file) if os.path.exists(file) else 0.0
    if key not in model.kept:  # loaded again after the file or the weights of the model have changed
        model.kept[key] = MeanStates.load(file, model)
    return model.kept[key]


def shipped_mean_states(model: Model) -> MeanStates:
    """Return the mean states that ship with an embedded model; empty for other models."""
    ships = model.folder is not None and (model.folder / FILE_NAME).exists()
    return mean_states(model) if ships else MeanStates({})
