"""Maps while a model is trained: nothing of the training changes, and they are those of the model that is saved."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image
from torch import nn
from transformers import Trainer, TrainingArguments

import nibt
from nibt.bridges.training import Watch, WatchCallback
from nibt.errors import (
    BadInput,
    BadOption,
    CannotLoad,
    CannotWrite,
    NibtError,
    OtherRequest,
    UnknownName,
    WouldOverwrite,
)
from tests import tiny
from tests.shared_models import module_state
from tests.suites import few

Pairs = list[tuple[Any, ...]]
CAPTIONS = list(tiny.CAPTIONS[:2])
MASK = np.zeros((48, 64), bool)
MASK[:, :32] = True
FAST = "nib steps=2 views=1"


def pairs() -> Pairs:
    return [(tiny.image(64, 48), CAPTIONS[0], MASK), (tiny.image(30, 90), CAPTIONS[1])]


def fresh() -> tuple[Any, Any]:
    """Return a model whose training draws random numbers, in training mode but for one part, and its processor."""
    built = tiny.clip()
    for name, part in built.module.train().named_modules():
        if name.endswith("self_attn"):
            part.dropout = 0.3
    built.module.text_model.encoder.layers[0].eval()  # a part that is frozen stays so
    return built.module, built.processor


def examples(processor: Any) -> list[dict[str, torch.Tensor]]:
    inputs = processor(
        text=CAPTIONS, images=[tiny.image(64, 48, seed).pil_image for seed in (0, 1)], return_tensors="pt", padding=True
    )
    return [{name: values[row] for name, values in inputs.items()} for row in (0, 1)]


def collated(rows: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
    return {**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}, "return_loss": True}


def trained(folder: Path, *callbacks: Any, **arguments: Any) -> Trainer:
    """Train a model for two steps, as the documentation of Transformers has it."""
    module, processor = fresh()
    chosen = {"max_steps": 2, "per_device_train_batch_size": 1, "learning_rate": 1e-2, "report_to": "none", **arguments}
    options = TrainingArguments(str(folder / "out"), use_cpu=True, save_strategy="no", disable_tqdm=True, **chosen)
    trainer = Trainer(
        module,
        options,
        data_collator=collated,
        train_dataset=examples(processor),  # pyright: ignore
        processing_class=processor,
        callbacks=list(callbacks),
    )
    trainer.train()
    return trainer


def drawn() -> list[float]:
    """Return a number of each generator but Python's, from which beartype draws; their states stay."""
    states = np.random.get_state(), torch.get_rng_state()
    numbers = [np.random.rand(), float(torch.rand(()))]
    np.random.set_state(states[0])
    torch.set_rng_state(states[1])
    return numbers


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "watch.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_trainer_gives_the_same_weights_with_the_callback(tmp_path: Path) -> None:
    plain, numbers = trained(tmp_path), drawn()
    watch = Watch(pairs(), tmp_path / "watch", FAST)
    watched = trained(tmp_path, WatchCallback(watch, interval=1))
    assert drawn() == numbers
    for one, other in zip(plain.model.state_dict().values(), watched.model.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert list(watch.explanations) == [0, 1, 2]
    assert [row["step"] for row in rows(tmp_path / "watch")] == ["0", "0", "1", "1", "2", "2"]
    watched.save_model(str(tmp_path / "saved"))
    images, captions = ([pair[place] for pair in pairs()] for place in (0, 1))
    saved = nibt.explain(str(tmp_path / "saved"), images, captions, FAST)
    for explanation, expected in zip(watch.explanations[2], saved, strict=True):
        torch.testing.assert_close(explanation.grid, expected.grid, atol=1e-6, rtol=1e-5)
        assert [word.score for word in explanation.words] == pytest.approx([word.score for word in expected.words])


def test_a_loop_is_not_changed_by_a_log(tmp_path: Path) -> None:
    def train(log: Callable[[Any, int], Any]) -> tuple[Any, Any, list[float]]:
        module, processor = fresh()
        batch, optimizer = collated(examples(processor)), torch.optim.AdamW(module.parameters(), 1e-2)
        torch.manual_seed(0)
        for step in range(2):
            module(**batch).loss.backward()
            if step:
                log(module, 10 * step)  # between the gradients and the step of the optimizer
            optimizer.step()
            optimizer.zero_grad(set_to_none=step > 0)
        return module, optimizer, drawn()

    states = []

    def log(module: Any, step: int) -> None:
        gradients = [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]
        before, buffers = module_state(module), {name: each.clone() for name, each in module.named_buffers()}
        watch.log(module, step)
        states.append(module_state(module) == before)
        kept = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        states.extend(torch.equal(*each) for each in zip(gradients, kept, strict=True))
        states.extend(torch.equal(buffers[name], each) for name, each in module.named_buffers())

    watch = Watch(pairs(), tmp_path / "watch", FAST, processor=tiny.clip().processor)
    (module, optimizer, numbers), (watched, other, drawn_after) = train(lambda *_: None), train(log)
    assert states
    assert all(states)
    assert numbers == drawn_after
    for one, another in zip(module.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, another)
        if one in optimizer.state:
            assert torch.equal(optimizer.state[one]["exp_avg"], other.state[another]["exp_avg"])


def test_a_model_is_in_its_mode_again_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, processor = fresh()
    before = module_state(module)
    monkeypatch.setattr(type(module), "train", lambda *_: pytest.fail("a train of its own may merge adapters"))
    with pytest.raises(NibtError):
        Watch(pairs(), tmp_path / "watch", "nib image_layer=99", processor=processor).log(module, 0)
    assert module_state(module) == before
    assert not (tmp_path / "watch").exists()


@pytest.mark.slow
def test_values_of_the_table(tmp_path: Path) -> None:
    module, processor = fresh()
    watch = Watch(pairs(), tmp_path / "watch", FAST, processor=processor)
    first = watch.log(module, 0)
    with torch.no_grad():
        module.visual_projection.weight.neg_()
    second = watch.log(module, 5)
    explanation = watch.explanations[5][0]
    assert [row["correlation"] for row in first] == [1, 1]
    assert [row["correlation"] for row in second] == pytest.approx([-1, -1], abs=0.01)  # a linear change of the sign
    assert second[0]["similarity"] == pytest.approx(-first[0]["similarity"], abs=1e-5)
    positive = explanation.heatmap().clip(0)[:, 8:56]  # a crop, of which the mask has the left half
    assert first[1]["energy"] is None
    assert second[0]["energy"] == pytest.approx(positive[:, :24].sum() / positive.sum(), abs=1e-3)
    path = explanation.image.path
    assert path is not None
    assert second[0]["sum"] == pytest.approx(float(path.sum), abs=1e-5)
    assert second[0]["gap"] == pytest.approx(float(path.gap), abs=1e-5)
    table = rows(tmp_path / "watch")
    assert [float(row["similarity"]) for row in table] == [row["similarity"] for row in first + second]
    assert table[1]["energy"] == ""
    with Image.open(tmp_path / "watch" / "watch.png") as picture:
        assert picture.size == watch.draw().size
        assert np.array_equal(np.asarray(picture), np.asarray(watch.draw()))


@pytest.mark.slow
def test_a_picture_has_few_columns(tmp_path: Path) -> None:
    module, processor = fresh()
    watch = Watch(pairs()[:1], tmp_path / "watch", "random", processor=processor)
    watch.log(module, 0)
    watch.explanations |= dict.fromkeys(range(1, 100), watch.explanations[0])
    assert watch.draw().width < 3000


@contextmanager
def in_distributed(module: nn.Module) -> Iterator[nn.Module]:
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield nn.parallel.DistributedDataParallel(module, find_unused_parameters=True)
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def in_parallel(module: nn.Module) -> Iterator[nn.Module]:
    yield nn.DataParallel(module)


@pytest.mark.parametrize("wrapped", few([in_parallel, in_distributed], [in_distributed]))
def test_wrappers_for_training_are_removed(tmp_path: Path, wrapped: Any) -> None:
    module, processor = fresh()
    watch = Watch(pairs(), tmp_path / "watch", FAST, processor=processor)
    with wrapped(module) as wrapper:
        before = module_state(wrapper)
        of_wrapper = watch.log(wrapper, 0)
        assert module_state(wrapper) == before
    assert watch.log(module, 0) == of_wrapper


NOT_STARTED: dict[str, tuple[Callable[[Path], Any], type[NibtError], str]] = {
    "no pairs": (lambda folder: Watch([], folder), BadInput, "got no pairs"),
    "no list": (lambda folder: Watch(3, folder), BadInput, "takes a list of pairs"),  # pyright: ignore
    "no pair": (lambda folder: Watch(["a cat"], folder), BadInput, "takes pairs of an image and a caption"),  # pyright: ignore
    "image": (lambda folder: Watch([(__file__, "a cat")], folder), BadInput, "test_training.py"),
    "no image": (lambda folder: Watch([("no.png", "a cat")], folder), BadInput, "no.png"),
    "caption": (lambda folder: Watch([(tiny.image(), " ")], folder), BadInput, "the caption is blank"),
    "mask": (lambda folder: Watch([(tiny.image(), "a cat", MASK[1:])], folder), BadInput, "shape of the image"),
    "method": (lambda folder: Watch(pairs(), folder, "nip"), UnknownName, "nib"),
    "file": (lambda _: Watch(pairs(), __file__), WouldOverwrite, "is a file: give a folder"),
    "other folder": (lambda _: Watch(pairs(), Path(__file__).parent), WouldOverwrite, "choose a new folder"),
    "loading": (lambda folder: Watch(pairs(), folder, views=1), UnknownName, "loading option"),
    "watch": (lambda folder: WatchCallback(str(folder)), BadInput, "watch must be a Watch"),  # pyright: ignore
    "interval": (lambda folder: WatchCallback(Watch(pairs(), folder), 0), BadOption, "interval"),
    "model": (
        lambda folder: begun(folder, nn.Sequential(nn.Linear(2, 2)), tiny.clip().processor),
        CannotLoad,
        "models of class Sequential are not supported",
    ),
    "processor": (lambda folder: begun(folder, tiny.clip().module, None), CannotLoad, "needs its processor"),
}


def begun(folder: Path, module: Any, processor: Any) -> None:
    """Call what the Trainer calls before its first step."""
    state, arguments = SimpleNamespace(is_world_process_zero=True, global_step=0), SimpleNamespace(report_to=[])
    callback = WatchCallback(Watch(pairs(), folder))
    callback.on_train_begin(arguments, state, None, model=module, processing_class=processor)


@pytest.mark.parametrize("case", NOT_STARTED)
def test_bad_input_is_one_line_before_the_training(tmp_path: Path, case: str) -> None:
    call, kind, message = NOT_STARTED[case]
    with pytest.raises((kind, TypeCheckError)) as error:
        call(tmp_path / "watch")
    if not isinstance(error.value, TypeCheckError):  # the full suite checks types before the call
        assert message in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "watch").exists()


@pytest.mark.slow
def test_two_watches_in_one_folder_keep_all_rows(tmp_path: Path) -> None:
    module, processor = fresh()
    first, second = (Watch(pairs(), tmp_path / "watch", FAST, processor=processor) for _ in range(2))
    first.log(module, 0)
    second.log(module, 1)
    first.log(module, 2)
    assert [row["step"] for row in rows(tmp_path / "watch")] == ["0", "0", "1", "1", "2", "2"]
    first.log(module, 4)
    with pytest.raises(OtherRequest, match="the steps 0 to 4 of another run"):
        first.log(module, 3)


@pytest.mark.slow
def test_a_model_with_another_grid_is_refused_and_the_folder_stays_usable(tmp_path: Path) -> None:
    watch = Watch([("sample:scene", "a hamburger")], tmp_path / "watch", "nib views=1")
    watch.log("scenes", 0)
    with pytest.raises(BadInput, match=r"the map of 'sample:scene' has \(22, 22\) cells, and had \(8, 8\)"):
        watch.log("lite", 1)
    assert [row["step"] for row in watch.log("scenes", 2)] == [2]


@pytest.mark.slow
def test_a_run_goes_on_in_its_folder_and_no_other_does(tmp_path: Path) -> None:
    module, processor = fresh()
    folder = tmp_path / "watch"

    def watch(watched: Pairs | None = None, method: str = FAST) -> Watch:
        return Watch(watched or pairs(), folder, method, processor=processor)

    def change() -> None:
        with torch.no_grad():
            module.visual_projection.weight.mul_(-1).add_(0.1)

    begun_run = watch()
    begun_run.log(module, 0)
    watch().log(module, 0)  # stopped after its first log
    change()
    begun_run.log(module, 2)
    stopped = watch()
    stopped.log(module, 2)
    change()
    stopped.log(module, 4)
    assert [row["step"] for row in rows(folder)] == ["0", "0", "2", "2", "4", "4"]
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for step in (0, 2):  # of another run: its weights are other ones
        with pytest.raises(OtherRequest, match=r"the steps 0 to 4 of another run \(got step \d\): choose a new folder"):
            watch().log(module, step)
    module = fresh()[0]  # also with the same weights, if it begins anew
    with pytest.raises(OtherRequest, match=r"another run \(got step 0\)"):
        watch().log(module, 0)
    with pytest.raises(OtherRequest, match=r"another run \(got step 0\)"):
        stopped.log(module, 0)  # also of the same object
    for others in ((pairs()[:1],), (None, "random")):
        with pytest.raises(OtherRequest, match="Choose a new folder"):
            watch(*others)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == kept
    (folder / "watch.csv").write_text("mine")
    with pytest.raises(WouldOverwrite, match="was edited"):
        watch()


@pytest.mark.slow
def test_an_error_during_the_training_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, log = Watch(pairs()[:1], tmp_path / "watch", FAST), Watch.log

    def full(self: Watch, model: Any, step: int) -> Any:
        if step:
            raise CannotWrite("cannot write watch.png: No space left on device")
        return log(self, model, step)

    monkeypatch.setattr(Watch, "log", full)
    with pytest.warns(UserWarning, match="step 2 was not logged: cannot write") as warned:
        assert trained(tmp_path, WatchCallback(watch)).state.global_step == 2
    assert sum("was not logged" in str(warning.message) for warning in warned) == 1


@pytest.mark.slow
def test_tensorboard_has_numbers_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watch = Watch(pairs(), tmp_path / "watch", FAST)
    trained(tmp_path, WatchCallback(watch), report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "out" / "runs" / "nibt")).Reload()
    similarities = [explanation.similarity for explanation in watch.explanations[2]]
    logged = events.Scalars("nibt/similarity")
    assert [event.step for event in logged] == [0, 2]
    assert logged[1].value == pytest.approx(np.mean(similarities), abs=1e-5)
    assert [event.step for event in events.Images("nibt/maps")] == [0, 2]
    assert events.Images("nibt/maps")[1].width == watch.draw().width


@pytest.mark.slow
def test_wandb_has_numbers_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is a stand-in: it is not installed."""
    logged: list[dict[str, Any]] = []
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(log=logged.append, Image=lambda image: image.size))
    module, processor = fresh()
    callback = WatchCallback(watch := Watch(pairs(), tmp_path / "watch", FAST), interval=5)
    arguments = SimpleNamespace(report_to=["wandb"])
    for step, zero in ((0, True), (5, True), (7, True), (10, False), (11, True)):
        state = SimpleNamespace(is_world_process_zero=zero, global_step=step, max_steps=11)
        call = callback.on_step_end if step else callback.on_train_begin
        call(arguments, state, None, model=module, processing_class=processor)
    assert [numbers["train/global_step"] for numbers in logged] == [0, 5, 11]
    assert logged[-1]["nibt/maps"] == watch.draw().size
    assert {f"nibt/{name}" for name in ("similarity", "correlation", "energy", "sum", "gap")} < set(logged[0])
