"""Tests of ``nibt.evaluation.roar``, run as a whole."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

import nibt
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, OtherRequest, UnknownName, Unsupported, WouldOverwrite
from nibt.evaluation.audit.randomization import copied
from nibt.evaluation.roar import run as running
from nibt.evaluation.roar.report import markdown
from nibt.evaluation.roar.run import RoarPlan, RoarRun
from nibt.evaluation.roar.settings import Settings
from nibt.models._loading import load_model
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import MethodSpec
from nibt.results.roar import Roar
from tests import tiny
from tests.helpers import noise_pairs

QUICK = {"epochs": 1, "batch_size": 4, "explain_batch": 5}


@pytest.fixture(scope="module")
def scenes() -> tuple[list[Pair], list[np.ndarray], list[np.ndarray]]:
    """Scenes, and maps that know where the named objects are, and which tokens name them."""
    pairs = list(Scenes(count=110, seed=11, fewest=1, most=3, named="all"))
    text = load_model("scenes").text
    grids, tokens = [], []
    for pair in pairs:
        mask = np.any([object_.mask for object_ in pair.objects if object_.mask is not None], axis=0)
        grids.append(mask.reshape(8, 16, 8, 16).mean((1, 3)).astype(np.float32))
        words = text.prepare([pair.caption]).words
        assert words is not None
        nouns = {part for object_ in pair.objects for part in object_.name.split()}
        named = [row for word in words.words[0] if word.text in nouns for row in word.tokens]
        one = torch.zeros(words.explained.shape[1])
        one[named] = 1
        tokens.append(one[words.explained[0]].numpy())
    return pairs, grids, tokens


@pytest.mark.slow
def test_roar_ranks_a_map_of_the_truth_above_a_random_one(
    scenes: tuple[list[Pair], list[np.ndarray], list[np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, grids, tokens = scenes
    raw_scores = running.raw_scores

    def scores(model: Any, pairs: Any, method: MethodSpec, **rest: Any) -> Any:
        return {"image": grids, "text": tokens} if method.name == "nib" else raw_scores(model, pairs, method, **rest)

    monkeypatch.setattr(running, "raw_scores", scores)
    settings = Settings(learning_rates={"features": 1e-3}, validation=30, epochs=8, init="fresh")
    run = RoarRun(
        load_model("scenes"),
        pairs,
        RoarPlan([MethodSpec("nib"), MethodSpec("random"), MethodSpec("ones")], ["features"], ("image", "text"), 2),
        settings,
        tmp_path,
        {},
    )
    run.run(no_progress)
    actual = {(increase.method, increase.side): increase for increase in run.result().loss_increases}
    for kind in ("image", "text"):
        assert actual["nib", kind].low > 0.1, "it does not learn what it does not see"
        assert actual["nib", kind].beats_random
        assert abs(actual["ones", kind].vs_random) < actual["nib", kind].vs_random / 2, (
            "equal scores hide what random ones do"
        )


@pytest.mark.slow
def test_roar_resumes_with_the_same_bits_after_being_killed(tmp_path: Path) -> None:
    def killed(limit: int) -> OnProgress:
        def tell(progress: Progress) -> None:
            if progress.done >= limit:
                raise KeyboardInterrupt

        return tell

    options = {"trainable": ("features", "last"), "side": ("text",), "repeats": 2, **QUICK}
    whole = nibt.roar(tiny.fresh("clip"), noise_pairs(12), "grad_cam", out=tmp_path / "one", **options)
    for limit in (1, 6, 13):
        with pytest.raises(KeyboardInterrupt):
            nibt.roar(
                tiny.fresh("clip"),
                noise_pairs(12),
                "grad_cam",
                out=tmp_path / "two",
                on_progress=killed(limit),
                **options,
            )
    again = nibt.roar(tiny.fresh("clip"), noise_pairs(12), "grad_cam", out=tmp_path / "two", **options)
    assert again.loss_increases == whole.loss_increases
    assert again.agreements == whole.agreements
    kept = [
        {file.name[:-22]: json.loads(file.read_text())["losses"] for file in (tmp_path / name / "parts").glob("*.json")}
        for name in ("one", "two")
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2 * 2 * (1 + 4)
    seen: list[str] = []
    nibt.roar(
        tiny.fresh("clip"),
        noise_pairs(12),
        "grad_cam",
        out=tmp_path / "two",
        **options,
        on_progress=lambda progress: seen.append(progress.stage),
    )
    assert seen == ["done"]
    more = nibt.roar(tiny.fresh("clip"), noise_pairs(12), ["grad_cam", "nib:paper"], out=tmp_path / "two", **options)
    assert {increase.method for increase in more.loss_increases} - {
        increase.method for increase in whole.loss_increases
    } == {"nib:paper"}
    assert [increase for increase in more.loss_increases if increase.method != "nib:paper"] == list(
        whole.loss_increases
    )


@pytest.mark.slow
def test_roar_leaves_the_model_and_the_generators_unchanged(tmp_path: Path) -> None:
    model = tiny.fresh("clip")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    flags = [one.requires_grad for one in model.module.parameters()]
    weights_hash, state = replace(model).weights_hash, torch.get_rng_state()
    with torch.no_grad():
        actual = nibt.roar(
            model,
            noise_pairs(12),
            "ones",
            out=tmp_path / "run",
            trainable=["features", "last", "whole"],
            repeats=1,
            learning_rate=1e-3,
            side="both",
            **QUICK,
        )
        assert not torch.is_grad_enabled()
    assert replace(model).weights_hash == weights_hash == actual.model["weights_hash"]
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert [one.requires_grad for one in model.module.parameters()] == flags
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())
    assert all(one.grad is None for one in model.module.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(training.after != training.before for training in actual.trainings)


@pytest.mark.slow
def test_roar_result_is_saved_and_loaded(tmp_path: Path) -> None:
    actual = nibt.roar(
        tiny.model("clip"),
        noise_pairs(12),
        out=tmp_path / "run",
        trainable=["features", "last"],
        side="both",
        **QUICK,
    )
    actual.save(tmp_path / "x.json")
    back = Roar.load(tmp_path / "x.json")
    assert back.loss_increases == actual.loss_increases
    assert back.agreements == actual.agreements
    assert back.trainings == actual.trainings
    assert json.loads(json.dumps(back.to_json())) == json.loads(json.dumps(actual.to_json()))
    assert [increase.method for increase in actual.loss_increases if increase.control] == [
        "random",
        "center",
        "ones",
    ] * 2
    text = markdown(actual)
    for word in ("75th", "90th", "Adam", "padding token", "repeats", "Kendall", "ones (control)", "features, last"):
        assert word in text, word
    with pytest.raises(BadInput, match="not a file of kind 'roar'"):
        Roar.load(tmp_path / "run" / "manifest.json")


def test_roar_rejects_bad_arguments(tmp_path: Path) -> None:
    model, pairs = tiny.model("clip"), noise_pairs(12)
    run = tmp_path / "run"
    with pytest.raises(BadInput, match="at least 10 pairs"):
        nibt.roar(model, pairs[:9], out=run)
    with pytest.raises(UnknownName, match="Did you mean 'nib'"):
        nibt.roar(model, pairs, "nibb", out=run)
    with pytest.raises(UnknownName, match="epochs"):
        nibt.roar(model, pairs, out=run, epoch=1)
    for wrong, message in (
        ({"trainable": "head"}, "features, last, whole"),
        ({"side": ()}, "side is empty: name at least one"),
        ({"repeats": 0}, "repeats must be between 1 and 1,000"),
        ({"learning_rate": 2.0}, r"less than 1 \(got 2\.0\)"),
        ({"epochs": 0}, r"greater than or equal to 1 \(got 0\)"),
        ({"learning_rate": {"lst": 0.1}}, "lst"),
        ({"validation": 100}, r"less than or equal to 99 \(got 100\)"),
        ({"batch_size": 1}, "2"),
        ({"init": "again"}, "'trained' or 'fresh'"),
        ({"trainable": "last", "blocks": 4}, "between 1 and 3"),
    ):
        with pytest.raises(BadOption, match=message):
            nibt.roar(model, pairs, out=run, **wrong)  # pyright: ignore
    half = copied(model)
    half.module.half()
    with pytest.raises(Unsupported, match="float32"):
        nibt.roar(half, pairs, out=run)
    assert not run.exists(), "what cannot be leaves no folder"
    (tmp_path / "file").write_text("")
    with pytest.raises(WouldOverwrite, match="is a file"):
        nibt.roar(model, pairs, out=tmp_path / "file", **QUICK)
    with pytest.raises(WouldOverwrite, match="not empty"):
        nibt.roar(model, pairs, out=tmp_path, **QUICK)


def test_roar_rejects_a_folder_of_other_settings(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tiny.model("clip")
    nibt.roar(model, noise_pairs(12), "ones", out=run, repeats=1, side="text", **QUICK)
    for other in ({"epochs": 2}, {"learning_rate": 1e-2}, {"seed": 1}, {"text_percentile": 80}):
        (name,) = other
        with pytest.raises(OtherRequest, match=rf"(?s)settings\.{name}.*now.*Choose a new folder"):
            nibt.roar(model, noise_pairs(12), "ones", out=run, repeats=1, side="text", **{**QUICK, **other})
    with pytest.raises(OtherRequest, match="pairs: "):
        nibt.roar(model, noise_pairs(11), "ones", out=run, repeats=1, side="text", **QUICK)
    with pytest.raises(OtherRequest, match="weights_hash"):
        nibt.roar(tiny.model("siglip"), noise_pairs(12), "ones", out=run, repeats=1, side="text", **QUICK)


@pytest.mark.slow
def test_roar_finishes_once_and_names_files_that_were_changed(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tiny.model("clip")
    options = {"out": run, "repeats": 1, "side": "text", **QUICK}
    first = nibt.roar(model, noise_pairs(12), "ones", **options)
    files = {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert nibt.roar(model, noise_pairs(12), "ones", **options).to_json() == first.to_json()
    assert {path.name: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files
    for pattern in ("features--ones*", "maps--ones*"):
        (path,) = (run / "parts").glob(pattern)
        content = path.read_bytes()
        path.write_bytes(content.replace(b"0", b"1"))
        with pytest.raises(WouldOverwrite, match=f"{path.name} was changed after it was written: move it away"):
            nibt.roar(model, noise_pairs(12), "ones", **options)
        path.write_bytes(content)
    manifest = run / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "sessions": []}))
    with pytest.raises(BadInput, match=r"manifest.json: sessions must have at least 1 entry: move it away"):
        nibt.roar(model, noise_pairs(12), "ones", **options)
    with FileLock(run / ".nibt.lock"), pytest.raises(BadInput, match="another run is writing into"):
        nibt.roar(model, noise_pairs(12), "ones", **options)


@pytest.mark.slow
def test_a_note_says_that_few_pairs_rank_by_chance(tmp_path: Path) -> None:
    result = nibt.roar(tiny.model("clip"), noise_pairs(12), out=tmp_path / "run", repeats=1, **QUICK)
    assert any(
        note.startswith("with 2 pairs for validation the order of the methods is mostly") for note in result.notes
    )
