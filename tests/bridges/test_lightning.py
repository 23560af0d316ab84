"""Tests of ``nibt.bridges.lightning`` with a real Trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from nibt.bridges.lightning import watch_callback
from nibt.bridges.training import Watch
from nibt.errors import BadInput, BadOption
from tests import tiny

pytestmark = pytest.mark.filterwarnings("ignore")  # those of Lightning itself
CAPTIONS = list(tiny.CAPTIONS[:2])


@pytest.fixture(autouse=True)
def _needs_lightning() -> None:
    pytest.importorskip("lightning.pytorch")


def watched(folder: Path, processor: Any) -> Watch:
    pairs = [(tiny.image(64, 48), CAPTIONS[0]), (tiny.image(30, 90), CAPTIONS[1])]
    return Watch(pairs, folder, "nib steps=2 views=1", processor=processor)


def train(callback: Any, folder: Path, built: Any, **options: Any) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    images = [tiny.image(64, 48, seed).pil_image for seed in (0, 1)]
    inputs = built.processor(text=CAPTIONS, images=images, return_tensors="pt", padding=True)
    batches = [{name: values[row] for name, values in inputs.items()} for row in (0, 1)]

    class Training(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.clip = built.module.train()

        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return self.clip(**batch, return_loss=True).loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    trainer = lightning.Trainer(
        max_epochs=2,
        callbacks=[callback],
        accelerator="cpu",
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **options,
    )
    trainer.fit(Training(), DataLoader(batches, batch_size=1))  # pyright: ignore[reportArgumentType]  # a list is one


@pytest.mark.slow
def test_each_epoch_is_logged_into_the_folder_and_the_logger(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import TensorBoardLogger
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    built = tiny.clip()
    watch = watched(tmp_path / "watch", built.processor)
    logger = TensorBoardLogger(tmp_path / "logs")
    train(watch_callback(watch, "clip"), tmp_path, built, logger=logger)
    assert list(watch.explanations) == [0, 2, 4]
    assert (tmp_path / "watch" / "watch.png").exists()

    board = EventAccumulator(logger.log_dir)
    board.Reload()
    assert [scalar.step for scalar in board.Scalars("nibt/similarity")] == [0, 2, 4]
    assert [image.step for image in board.Images("nibt/maps")] == [0, 2, 4]
    assert built.module.training, "the training goes on in its mode"


def test_steps_are_logged_at_an_interval(tmp_path: Path) -> None:
    built = tiny.clip()
    watch = watched(tmp_path / "watch", built.processor)
    train(watch_callback(watch, "clip", interval=3), tmp_path, built, logger=False)
    assert list(watch.explanations) == [0, 3]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("module", ["model", None, 3])
def test_a_module_that_is_not_there_ends_the_training(module: Any, tmp_path: Path) -> None:
    built = tiny.clip()
    watch = watched(tmp_path / "watch", built.processor)
    with pytest.raises(
        BadOption, match=rf"module must name the image-text model in Training \(got {module!r}\): it has clip"
    ):
        train(watch_callback(watch, module), tmp_path, built, logger=False)


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"watch must be a Watch of pairs and a folder \(got int\)"):
        watch_callback(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(BadOption, match="interval must be"):
        watch_callback(watched(tmp_path, tiny.clip().processor), interval=0)
