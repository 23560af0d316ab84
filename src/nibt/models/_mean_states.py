"""The mean states of a model, which narrowing may run to, and the file that holds them.

One safetensors file: ``image.mean.K`` for image layer K, (tokens, width), or (width,) for a tower whose states do
not mean their place; ``text.mean.K`` and ``text.first.K`` for text layer K. Captions differ in length, so their
rows are aligned at the last word: row ``zero + d`` of ``text.mean.K`` is the mean state d rows after it. The rows
before the first word are those of ``text.first.K``. The file says which weights made it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor

from nibt.data.units import Grid, Words
from nibt.errors import WrongBaseline
from nibt.io import short_digest
from nibt.models.base import Inputs, Model, Tower
from nibt.outputs import sorted_header, unsigned, write_bytes
from nibt.torch_modes import plain_torch
from nibt.types import Hidden, Modality

_KIND = "nibt mean states"
FILE_NAME = "mean_states.safetensors"
"""The file of an embedded model's own mean states, in its folder."""


@dataclass(frozen=True)
class MeanStates:
    """Mean states by layer, and the facts that bind them to a model."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    @plain_torch()
    def load(cls, path: str | Path, model: Model) -> "MeanStates":
        """Read a file and check that it belongs to the model.

        Raises:
            WrongBaseline: There is no such file, it holds no mean states, or those of other weights.

        """
        if not Path(path).is_file():
            raise WrongBaseline(f"there is no file {str(path)!r} of mean states; make one with nibt calibrate")
        try:
            with safe_open(str(path), "pt") as opened:
                facts = opened.metadata() or {}
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}
        except SafetensorError as error:
            raise WrongBaseline(f"{str(path)!r} is no file of mean states ({error})") from error
        if Path(path).parent != model.folder:  # what ships with a model is its own
            _check(str(path), facts, model)
        return cls(tensors, facts)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write the file, whole or not at all.

        Raises:
            WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
            CannotWrite: The folder is missing or closed, or the disk is full.

        """
        facts = {"signature": unsigned(self.facts), "kind": _KIND, **self.facts}
        write_bytes(Path(path), sorted_header(serialized(dict(self.tensors), facts)), overwrite)

    def state(self, tower: Tower, inputs: Inputs, hidden: Hidden, layer: int) -> Hidden:
        """The mean state for each row of a batch at a layer, of the shape of ``hidden``.

        Raises:
            WrongBaseline: That side or layer was not calibrated, or with another grid.

        """
        key = f"{tower.modality}.mean.{layer}"
        if key not in self.tensors:
            raise WrongBaseline(
                f"the mean states have no layer {layer} of the {tower.modality} tower "
                f"(they have {', '.join(self.layers(tower.modality)) or 'none'}); calibrate it, or choose another layer"
            )
        mean = self.tensors[key].to(hidden)
        if tower.modality == "text":
            return self._for_captions(mean, self.tensors[f"text.first.{layer}"].to(hidden), inputs, hidden)
        if mean.ndim == 2:
            self._check_grid(mean, hidden, grid_fact(tower, inputs))
        return mean.expand_as(hidden)

    def _check_grid(self, mean: Tensor, hidden: Hidden, grid: Mapping[str, str]) -> None:
        if mean.shape != hidden.shape[1:]:
            made, here = f"of {len(mean)} tokens", f"{hidden.shape[1]} tokens"
        elif self.facts.get("grid", grid["grid"]) != grid["grid"]:  # as many, in other rows and columns
            made, here = f"of {self.facts['grid']}", grid["grid"]
        else:
            return
        raise WrongBaseline(
            f"the mean states are for a grid {made}, this image has {here}; calibrate with images of this size"
        )

    def layers(self, modality: Modality) -> list[str]:
        found = [key.rsplit(".", 1)[1] for key in self.tensors if key.startswith(f"{modality}.mean.")]
        return sorted(found, key=int)

    def _for_captions(self, mean: Tensor, first: Tensor, inputs: Inputs, hidden: Hidden) -> Hidden:
        assert inputs.words is not None
        zero = int(self.facts["zero"])
        rows = []
        for places, start in zip(*caption_places(inputs.words, hidden.shape[1]), strict=True):
            row = mean[(places + zero).clamp(0, len(mean) - 1)]
            count = min(start, len(first))
            rows.append(torch.cat([first[:count], row[count:]]))
        return torch.stack(rows)


def file_hashes(baselines: Iterable[Any]) -> dict[str, str]:
    """The digests of the files of mean states that baselines name (``mean:FILE``), by their paths: what stands in a
    file is part of what is asked.
    """
    paths = {str(one).removeprefix("mean:") for one in baselines if str(one).startswith("mean:")}
    return {path: short_digest(path) for path in sorted(paths) if Path(path).is_file()}


def _check(path: str, facts: Mapping[str, str], model: Model) -> None:
    if facts.get("kind") != _KIND:
        raise WrongBaseline(f"{path!r} holds other tensors than mean states; make them with nibt calibrate")
    if facts.get("weights_hash") != model.weights_hash:
        raise WrongBaseline(
            f"{path!r} was made with the model {facts.get('model')} (weights {facts.get('weights_hash')}), this is "
            f"{model.id} in {model.dtype} (weights {model.weights_hash}); calibrate it anew"
        )


def grid_fact(tower: Tower, inputs: Inputs) -> dict[str, str]:
    """The grid of a batch of images in words, where a state means its place on it."""
    if not tower.positional:
        return {}
    grid = tower.units(inputs, inputs.values)  # one for all layers, whatever the stream
    return {"grid": f"{grid.rows} x {grid.columns}"} if isinstance(grid, Grid) else {}


def caption_places(words: Words, rows: int) -> tuple[list[Tensor], list[int]]:
    """For each caption: how many rows each row stands after the last word, and the row of the first word."""
    explained = words.explained
    lasts = [int(row.nonzero().max()) for row in explained]
    return [torch.arange(rows, device="cpu") - last for last in lasts], [int(row.nonzero().min()) for row in explained]
