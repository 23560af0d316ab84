"""A ``Watch`` as a callback of Lightning: maps of fixed pairs while a model is trained."""

import warnings
from importlib import import_module
from typing import Annotated, Any

import torch
from torch import nn

from nibt.bridges.tracking import sink_of
from nibt.bridges.training import Watch, means_of
from nibt.errors import BadInput, BadOption, NibtError, Unsupported
from nibt.options import Range, parsed


def watch_callback(watch: Watch, module: str = "model", interval: int | None = None) -> Any:
    """Return a callback for ``Trainer(callbacks=[...])`` of Lightning.

    It logs before the first step, where what is wrong ends the training, and then at the end of each epoch or every
    ``interval`` steps, where an error is a warning. The means of the table over the pairs go to all loggers of the
    Trainer, and the picture to those of TensorBoard, Weights & Biases and MLflow.

    Args:
        watch: The watch, with a ``processor`` or ``tokenizer`` where ``load_model`` needs one.
        module: The attribute of the LightningModule that has the image-text model, such as a ``CLIPModel``.
        interval: The number of steps between two logs; None means an epoch.

    Returns:
        A ``Callback`` of the package ``lightning`` or, if only that is installed, ``pytorch_lightning``.

    Raises:
        BadInput: ``watch`` is no ``Watch``.
        BadOption: ``interval`` is not positive, or, when the training begins, the LightningModule has no such module.
        Unsupported: Lightning is not installed.
    """
    if not isinstance(watch, Watch):
        raise BadInput(f"watch must be a Watch of pairs and a folder (got {type(watch).__name__})")
    every = None if interval is None else parsed("interval", interval, Annotated[int, Range(1)])

    class WatchCallback(_base()):
        """Logs a watch."""

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._log(trainer, pl_module)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *batch: Any) -> None:
            if every and trainer.global_step and trainer.global_step % every == 0:
                self._try(trainer, pl_module)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if not every:
                self._try(trainer, pl_module)

        def _try(self, trainer: Any, pl_module: Any) -> None:
            """Log a step of a training that goes on without it if that fails."""
            try:
                self._log(trainer, pl_module)
            except (NibtError, torch.OutOfMemoryError) as error:
                warnings.warn(f"step {trainer.global_step} was not logged: {error}", stacklevel=2)

        def _log(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.is_global_zero or trainer.sanity_checking:
                return

            step = trainer.global_step
            numbers = means_of(watch.log(_module_of(pl_module, module), step))
            for logger in trainer.loggers:
                logger.log_metrics(numbers, step)
                _log_picture(logger, watch, step)

    return WatchCallback()


def _base() -> Any:
    """Return the class of callbacks."""
    for package in ("lightning.pytorch", "pytorch_lightning"):
        try:
            return import_module(package).Callback
        except ImportError:
            continue
    raise Unsupported("watch_callback needs the package lightning: pip install lightning")


def _module_of(pl_module: Any, name: str) -> nn.Module:
    module = getattr(pl_module, name, None) if isinstance(name, str) else None
    if not isinstance(module, nn.Module):
        known = [each for each, _ in pl_module.named_children()]
        raise BadOption(
            f"module must name the image-text model in {type(pl_module).__name__} (got {name!r}): it has "
            f"{', '.join(known) or 'no modules'}"
        )
    return module


def _log_picture(logger: Any, watch: Watch, step: int) -> None:
    """Log the picture, if the logger is of a tracker that takes pictures."""
    kind = type(logger).__name__
    if kind == "MLFlowLogger":
        logger.experiment.log_image(logger.run_id, watch.draw(), f"nibt/maps-step-{step}.png")
    elif kind in ("TensorBoardLogger", "WandbLogger"):
        picture_step = step if kind == "TensorBoardLogger" else None  # Lightning has a step of its own there
        sink_of(logger.experiment).picture("nibt/maps", watch.draw(), picture_step)
