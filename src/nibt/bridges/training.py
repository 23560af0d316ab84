"""What a model looks at while it is trained: maps of fixed pairs, for any loop and for the Trainer of Transformers."""

import csv
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from nibt.data.ground_truth import seen_mask
from nibt.data.pair import GivenPair, image_text_pairs, pairs_hash
from nibt.datasets.base import Dataset
from nibt.engine.explain import explain
from nibt.errors import BadInput, NibtError, OtherRequest
from nibt.folder import ChunkFile, Manifest, RunFolder, require_unchanged
from nibt.io import atomic_write, load_json, read_path
from nibt.metrics._numbers import rank_correlation
from nibt.metrics.localization import Energy
from nibt.models._loading import ModelSource, load_model
from nibt.models._request import LoadOptions, check_loading
from nibt.models.base import Model
from nibt.options import Range, parsed
from nibt.records import JsonObject
from nibt.registry import MethodSpec
from nibt.report.colors import DEFAULT, INK
from nibt.report.image.heatmap import overlay
from nibt.report.image.layout import MARGIN, below, centered, resized, stacked, text_rows, tile
from nibt.report.request import legend, method_line
from nibt.results.base import as_text
from nibt.results.explanation import Explanation
from nibt.results.pixels import to_pixels

_SIDE = 150
_MOST_STEPS = 12
_MOST_PAIRS = 16
_TABLE = "watch.csv"
_PICTURE = "watch.png"
_VALUES = ("similarity", "correlation", "energy", "sum", "gap")


class _Manifest(Manifest):
    kind: str = "watch"


class _Steps(RunFolder[_Manifest]):
    """The folder of a watch, with a file of explanations per step."""

    manifest_class = _Manifest
    chunk_pattern = r"\d{8,}"


class Watch:
    """Maps of fixed pairs while a model is trained, in a folder that grows with each step that is logged.

    The folder has ``watch.png``, a row of maps per pair and a column per step; ``watch.csv``, a row per step and pair;
    and in ``parts`` the explanations of each step. The table has these columns:

    - ``similarity``: the similarity of the pair.
    - ``correlation``: the rank correlation of the map with that of the first step, from -1 to 1.
    - ``energy``: the share of the positive scores inside the masks, from 0 to 1; empty without masks.
    - ``sum``, ``gap``: the sum of the map, and what it lacks of the change of the similarity from the baseline; the gap
      is empty for methods without a path.

    Args:
        pairs: Pairs of a data set, whose masks are those of the objects that the caption names, or tuples of an image,
            a caption and, if it is known, a mask: a NumPy array of true and false, (height, width) of the image.
        folder: A new folder, or one of the same pairs and method, in which a run that was stopped goes on.
        method: The name of the method, or its text with a variant and options (``"nib views=1"``).
        **loading: Options of ``load_model`` for a model in memory, such as ``processor``.

    Attributes:
        pairs: The pairs.
        explanations: The explanations of the pairs, by the step.

    Raises:
        BadInput: There are no pairs, or an image or a caption cannot be read.
        UnknownName: No method, or no option of ``load_model``, has that name.
        WouldOverwrite: The folder is a file, or has other files.
        OtherRequest: The folder has the maps of other pairs or of another method.
    """

    def __init__(
        self, pairs: Sequence[GivenPair] | Dataset, folder: str | Path, method: str = "nib", **loading: Any
    ) -> None:
        self.pairs = image_text_pairs(pairs, "Watch")
        if not self.pairs:
            raise BadInput("there is nothing to watch (got no pairs): give at least one pair")

        check_loading(loading, LoadOptions, "tokenizer")
        self.method = MethodSpec.of(method)
        self.loading = loading
        self._folder = _Steps(read_path("folder", folder))
        self._request = {"pairs": pairs_hash(self.pairs), "method": str(self.method)}
        self._folder.require_request(self._request)
        self._folder.check_reports([_TABLE])
        self.explanations: dict[int, list[Explanation]] = {}

    def log(self, model: ModelSource, step: int) -> list[JsonObject]:
        """Explain the pairs with a model as it is now, and write the step into the folder.

        The model is in evaluation mode for the time of the call; nothing else of it, and no random state, changes.

        Args:
            model: The model that is trained, as ``load_model`` takes it; wrappers for training are removed.
            step: The number of the step, from 0.

        Returns:
            The rows of the table for this step, one per pair; None for what is not known.

        Raises:
            CannotLoad: The model is not supported, or its weights are not finite.
            OtherRequest: The folder has this step, or later ones, of another run.
            CannotWrite: The disk is full, or the table was edited.
        """
        step = parsed("step", step, Annotated[int, Range(0)])
        with _evaluation_mode(model):
            images = [pair.image for pair in self.pairs]
            captions = [pair.caption for pair in self.pairs]
            explanations = explain(load_model(model, **self.loading), images, captions, self.method)

        with self._folder.writing(self._request):
            earlier = self._earlier(step, explanations)
            data = as_text([explanation.to_json() for explanation in explanations]).encode()
            self._folder.add(ChunkFile(f"{step:08}", data, suffix=".json"))
            self.explanations = dict(sorted({**earlier, step: explanations}.items()))
            rows = list(self._rows())
            text = StringIO()
            table = csv.DictWriter(text, rows[0], lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
            self._folder.write_reports({_TABLE: text.getvalue()})
            with atomic_write(self._folder.folder / _PICTURE) as draft:
                self.draw().save(draft)

        return [row for row in rows if row["step"] == step]

    def draw(self) -> Image.Image:
        """Draw the first 16 pairs, a row of maps each, at up to 12 steps from the first to the last."""
        if not self.explanations:
            raise BadInput("there is nothing to draw: log a step first")

        steps = list(self.explanations)
        first = next(iter(self.explanations.values()))[0]
        places = np.linspace(0, len(steps) - 1, min(len(steps), _MOST_STEPS)).round().astype(int)
        rows = []
        for number, pair in enumerate(self.pairs[:_MOST_PAIRS]):
            photograph = resized(pair.image.pil_image, _SIDE)
            tiles = [tile(photograph, "image")]
            for step in (steps[place] for place in places):
                explanation = self.explanations[step][number]
                drawn = overlay(explanation, photograph, DEFAULT.pale if explanation.is_noise("image") else DEFAULT)
                tiles.append(tile(drawn, f"step {step}", f"{explanation.similarity:z.2f}"))
            rows.append((pair.caption, tiles))

        width = max(640, *(sum(each.width + MARGIN for each in tiles) + MARGIN for _, tiles in rows))
        notes = f"{method_line(first)}    each map has its own scale    the number is the similarity"
        head = text_rows([f"{legend(first)}    {notes}"], width)
        return stacked(
            [head, *(below(text_rows([text], width, ink=INK), centered(tiles, width)) for text, tiles in rows)], width
        )

    def _earlier(self, step: int, explanations: Sequence[Explanation]) -> dict[int, list[Explanation]]:
        """Return the explanations that are stored, after a check that they are of the run that goes on at a step."""
        stored = {
            int(name): self.explanations.get(int(name))  # another watch may have written the step
            or [Explanation.from_json(item) for item in load_json(require_unchanged(path))]
            for name, (path, *_) in self._folder.files().items()
        }
        first = next(iter(stored.values()), explanations)
        for pair, before, now in zip(self.pairs, first, explanations, strict=True):
            if before.grid.shape != now.grid.shape:
                raise BadInput(
                    f"the map of {pair.image.source!r} has {tuple(now.grid.shape)} cells, and had "
                    f"{tuple(before.grid.shape)} at the first step: log the same model, or choose a new folder"
                )

        is_back = step < max(stored, default=step) and (step not in stored or step == min(stored))
        weights = [items[0].model["weights_hash"] for items in (stored.get(step, explanations), explanations)]
        if is_back or weights[0] != weights[1]:
            raise OtherRequest(
                f"{str(self._folder.folder)!r} has the steps {min(stored)} to {max(stored)} of another run (got step "
                f"{step}): choose a new folder"
            )
        return stored

    def _rows(self) -> Iterator[JsonObject]:
        """Yield the rows of the table."""
        first = next(iter(self.explanations.values()))
        names = ("step", "pair", "image", "caption", *_VALUES)
        for step, explanations in self.explanations.items():
            for number, (pair, explanation) in enumerate(zip(self.pairs, explanations, strict=True)):
                grid = explanation.grid
                path = explanation.image.path
                mask = seen_mask(pair, [item for item in pair.objects if item.spans], explanation.region)
                values = (
                    explanation.similarity,
                    rank_correlation(grid.flatten(), first[number].grid.flatten()),
                    Energy().number(to_pixels(grid, *mask.shape), mask) if mask.any() else math.nan,
                    float(grid.sum()),
                    math.nan if path is None else float(path.gap),
                )
                numbers = [None if math.isnan(value) else round(value, 6) for value in values]
                yield dict(zip(names, (step, number, pair.image.source, pair.caption, *numbers), strict=True))


@contextmanager
def _evaluation_mode(model: object) -> Iterator[None]:
    """Set the flag of each module, and set it back: a ``train`` of its own may do more, such as merge adapters."""
    roots = model if isinstance(model, tuple) else (model.module if isinstance(model, Model) else model,)
    flags = [(module, module.training) for root in roots if isinstance(root, nn.Module) for module in root.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, is_training in flags:
            module.training = is_training


def means_of(rows: Sequence[JsonObject]) -> dict[str, float]:
    """Return the means of the rows of a step over the pairs, by their names in trackers."""
    means = {}
    for name in _VALUES:
        if values := [row[name] for row in rows if row[name] is not None]:
            means[f"nibt/{name}"] = float(np.mean(values))
    return means


class WatchCallback(TrainerCallback):
    """A ``Watch`` as a callback of ``transformers.Trainer``.

    It logs before the first step, where what is wrong ends the training, and then at the end of each epoch or every
    ``interval`` steps, where an error is a warning. The means of the table over the pairs, and the picture, go to
    TensorBoard and wandb if ``report_to`` names them.

    Args:
        watch: The watch. Without a ``processor``, it uses the ``processing_class`` of the Trainer.
        interval: The number of steps between two logs; None means an epoch.
    """

    def __init__(self, watch: Watch, interval: int | None = None) -> None:
        if not isinstance(watch, Watch):
            raise BadInput(f"watch must be a Watch of pairs and a folder (got {type(watch).__name__})")
        self.watch = watch
        self._board = None
        self.interval = None if interval is None else parsed("interval", interval, Annotated[int, Range(1)])

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if not state.is_world_process_zero:
            return

        if hasattr(objects.get("processing_class"), "image_processor"):
            self.watch.loading.setdefault("processor", objects["processing_class"])
        if "tensorboard" in (args.report_to or ()):
            self._board = TensorBoardCallback()  # whose hooks choose the package, and open and close the file
            self._board.logging_dir = self._board.logging_dir or os.path.join(args.output_dir or ".", "runs", "nibt")
            self._board.on_train_begin(args, state, control)

        self._log(args, state.global_step, objects["model"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if self.interval and (state.global_step % self.interval == 0 or state.global_step == state.max_steps):
            self._try(args, state, objects["model"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if not self.interval:
            self._try(args, state, objects["model"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **objects: Any
    ) -> None:
        if self._board:
            self._board.on_train_end(args, state, control)

    def _try(self, args: TrainingArguments, state: TrainerState, model: nn.Module) -> None:
        """Log a step of a training that goes on without it if that fails."""
        try:
            if state.is_world_process_zero:
                self._log(args, state.global_step, model)
        except (NibtError, torch.OutOfMemoryError) as error:
            warnings.warn(f"step {state.global_step} was not logged: {error}", stacklevel=2)

    def _log(self, args: TrainingArguments, step: int, model: nn.Module) -> None:
        """Log a step, and report the means of its rows and the picture."""
        numbers = means_of(self.watch.log(model, step))
        if self._board and self._board.tb_writer:
            for name, value in numbers.items():
                self._board.tb_writer.add_scalar(name, value, step)
            self._board.tb_writer.add_image("nibt/maps", np.asarray(self.watch.draw()), step, dataformats="HWC")

        if "wandb" in (args.report_to or ()):
            wandb = import_module("wandb")
            wandb.log({**numbers, "nibt/maps": wandb.Image(self.watch.draw()), "train/global_step": step})
