"""The audit: what it must fail, what it must pass, and that the audited model is left as it was."""

import json
import re
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
import tiny
from helpers import Run, check_page, noise_pairs
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, UnknownName
from nibt.evaluation.audit.counterfactuals import inner, nonsense, other_captions, other_images
from nibt.evaluation.audit.intervals import interval
from nibt.evaluation.audit.randomization import cascade, copied, stages
from nibt.evaluation.audit.similarity import spearman, ssim
from nibt.evaluation.audit.thresholds import BOUNDS, LEAST_PAIRS
from nibt.evaluation.maps import Map, MethodSpec, maps, without_mean_states
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import Progress
from nibt.report.html.audit import page, threshold
from nibt.report.html.audit_plots import gauge
from nibt.results.audit import Audit, Check

pytest.importorskip("scipy", reason="an audit ranks with scipy")
pytest.importorskip("skimage", reason="an audit compares maps with scikit-image")

MANY = 8


def verdicts(audit: Audit, method: str = "") -> dict[tuple[str, str], str]:
    return {(check.name, check.side): check.verdict for check in audit.checks if check.method == method}


@pytest.fixture(scope="module")
def scenes() -> Audit:
    """NIB on scenes, at the smallest size."""
    return nibt.audit("scenes", list(Scenes(count=MANY, seed=5, fewest=2, most=3, named="all")), "nib", quick=True)


@pytest.fixture(scope="module")
def random() -> Audit:
    return nibt.audit(tiny.model("clip"), noise_pairs(MANY), "random", quick=True)


# -------------------------------------------------------------------------------------------- what must pass and fail


def test_nib_on_scenes_passes(scenes: Audit) -> None:
    assert {key: told for key, told in verdicts(scenes, "nib").items() if told != "pass"} == {}
    assert set(verdicts(scenes).values()) == {"pass"}, "the model tells right captions from wrong ones"
    assert {check.question for check in scenes.checks if check.method == "nib"} == {1, 2, 3, 4, 5, 6}


def test_a_random_map_fails(random: Audit) -> None:
    found = verdicts(random, "random")
    failing = [
        ("weights", "image"),
        ("weights_ssim", "image"),
        ("weights", "text"),
        ("mismatch_image", "image"),
        ("nonsense", "image"),
        ("mismatch_text", "text"),
        ("seed", "image"),
        ("seed", "text"),
    ]
    assert [found[key] for key in failing] == ["fail"] * len(failing)
    assert not all(found[metric, side] == "pass" for metric in ("deletion", "insertion") for side in ("image", "text"))
    assert random.verdict == "fail"


def test_a_model_whose_text_tower_is_constant_fails() -> None:
    """What leaves its last norm is the norm's bias, whatever the caption."""
    model = tiny.fresh("clip")
    with torch.no_grad():
        model.module.text_model.final_layer_norm.weight.zero_()  # pyright: ignore
    found = nibt.audit(model, noise_pairs(MANY), "nib", quick=True)
    assert verdicts(found) == {("auc", ""): "fail", ("recall", ""): "fail"}
    own = verdicts(found, "nib")
    for key in (
        ("weights", "text"),
        ("mismatch_image", "image"),
        ("nonsense", "image"),
        ("mismatch_text", "text"),
        ("deletion", "text"),
    ):
        assert own[key] == "fail", key


# ---------------------------------------------------------------------------------------------------- the model stays


def test_the_model_is_left_as_it_was() -> None:
    model = tiny.fresh("clip")
    module = model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    flags = [one.requires_grad for one in module.parameters()]
    told = replace(model, _hashes={}).weights_hash
    for side in ("image", "text"):
        assert len(list(cascade(model, noise_pairs(MANY)[:2], [MethodSpec("nib")], side, 0, 2, 8))) == 5
    assert replace(model, _hashes={}).weights_hash == told
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [one.requires_grad for one in module.parameters()] == flags
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(one.grad is None for one in module.parameters())


@pytest.mark.parametrize("kind", ["clip", "siglip", "own resnet", "coca", "bert", "timm vit"])
def test_the_stages_of_a_copy_hold_every_parameter_of_a_tower_once(kind: str) -> None:
    model = copied(tiny.model(kind))
    assert model.module is not tiny.model(kind).module
    for side, item in (("image", tiny.image()), ("text", "a red cat")):
        tower = model.tower(side)
        found = stages(tower, tower.prepare([item]), 2)
        assert (found[0].name, found[-1].name, len(found)) == ("head", "stem", 4)
        every = [id(one) for stage in found for one in stage.parameters]
        assert found[0].parameters
        assert found[-1].parameters
        assert set(every) <= {id(one) for one in model.module.parameters()}
        assert len(set(every)) == len(every) or kind == "bert", "blocks may share weights"


def test_from_the_top_down_more_and_more_is_random() -> None:
    model = tiny.model("clip")
    found = list(cascade(model, noise_pairs(MANY), [MethodSpec("nib")], "image", 0, 12, 8))
    assert [name for name, _ in found] == ["nothing", "head", "block 2", "block 1", "block 0", "stem"]
    plain = maps(model, noise_pairs(MANY), MethodSpec("nib"), "image", 0)
    for one, other in zip(plain, found[0][1]["nib"], strict=True):
        assert np.array_equal(one.scores, other.scores), "of nothing is the model itself"
    assert not np.array_equal(plain[0].scores, found[1][1]["nib"][0].scores)


def test_mean_states_of_the_learned_weights_are_not_asked_of_a_random_tower() -> None:
    lite = load_model("lite")
    own = MethodSpec("nib")
    assert without_mean_states(lite, own, "image") == MethodSpec("nib", options={"image_baseline": "blank"})
    assert without_mean_states(tiny.model("clip"), own, "image") == own


# -------------------------------------------------------------------------------------------------------- same seed


def test_the_same_seed_gives_the_same_audit(random: Audit) -> None:
    again = nibt.audit(tiny.model("clip"), noise_pairs(MANY), "random", quick=True)
    assert replace(again, seconds=0.0) == replace(random, seconds=0.0)


def test_another_seed_makes_another_random_tower() -> None:
    runs = [
        list(cascade(tiny.model("clip"), noise_pairs(MANY)[:2], [MethodSpec("nib")], "image", seed, 2, 8))
        for seed in (1, 1, 2)
    ]
    scores = [[found["nib"][0].scores for _, found in run] for run in runs]
    assert all(np.array_equal(one, same) for one, same in zip(scores[0], scores[1], strict=True))
    assert np.array_equal(scores[0][0], scores[2][0])
    assert not np.array_equal(scores[0][-1], scores[2][-1])


# ---------------------------------------------------------------------------------------------------------- likeness


def test_equal_maps_are_alike_and_turned_ones_the_opposite() -> None:
    drawn = np.random.default_rng(0).normal(size=(8, 8))
    assert spearman(drawn, drawn) == ssim(drawn, drawn) == 1
    assert spearman(drawn, -drawn) == pytest.approx(-1)
    board = np.indices((8, 8)).sum(0) % 2 - 0.5  # each window has nearly the mean of its turned self
    assert ssim(board, -board) == pytest.approx(-1, abs=0.02)
    assert ssim(drawn, -drawn) < -0.5


def test_likeness_by_hand() -> None:
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3])) == pytest.approx(1 - 6 * 2 / (4 * 15))
    flat = np.zeros((4, 4))
    assert spearman(flat, flat + 1) == 1
    assert spearman(flat, np.arange(16.0).reshape(4, 4)) == 0
    assert np.isnan(spearman(np.array([1.0, 2]), np.array([2.0, 1])))
    assert np.isnan(ssim(np.eye(2), np.eye(2)))


def test_ssim_is_the_formula_of_wang_in_one_window() -> None:
    one, other = np.random.default_rng(1).random((2, 3, 3))
    one, other = ((x - x.min()) / np.ptp(x) for x in (one, other))
    (vx, vxy), (_, vy) = np.cov(one.ravel(), other.ravel())
    mx, my, c1, c2 = one.mean(), other.mean(), 0.01**2, 0.03**2
    by_hand = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert ssim(3 * one - 1, other) == pytest.approx(by_hand)


def test_scipy_and_scikit_image_say_the_same() -> None:
    stats = pytest.importorskip("scipy.stats", reason="the oracle")
    skimage = pytest.importorskip("skimage.metrics", reason="the oracle")
    one, other = np.random.default_rng(2).random((2, 7, 7))
    one, other = ((x - x.min()) / np.ptp(x) for x in (one, other))
    assert spearman(one, other) == pytest.approx(stats.spearmanr(one.ravel(), other.ravel()).statistic)
    assert ssim(one, other) == pytest.approx(skimage.structural_similarity(one, other, win_size=5, data_range=1.0))


def test_an_interval_leaves_out_what_was_not_measured() -> None:
    found = interval([1.0, 1.0, float("nan"), 1.0], 0)
    assert found is not None
    assert asdict(found) == {"mean": 1.0, "low": 1.0, "high": 1.0, "count": 3}
    assert interval([float("nan")], 0) is None


@pytest.mark.parametrize(
    ("value", "low", "high", "better", "told"),
    [
        (0.3, 0.1, 0.5, "lower", "pass"),
        (0.3, 0.1, 0.8, "lower", "warn"),
        (0.5, 0.4, 0.6, "lower", "warn"),
        (0.7, 0.6, 0.8, "lower", "fail"),
        (0.8, 0.71, 0.9, "higher", "pass"),
        (0.3, 0.2, 0.5, "higher", "fail"),
    ],
)
def test_verdicts(value: float, low: float, high: float, better: str, told: str) -> None:
    passes, fails = (0.4, 0.7) if better == "lower" else (0.7, 0.4)
    check = Check("x", 1, "nib", "image", value, low, high, 8, better, passes, fails, "x")  # pyright: ignore
    assert check.verdict == told
    assert gauge(check).startswith("<svg")
    assert "0.4" in threshold(check)


def test_thresholds_are_in_order() -> None:
    for name, bound in BOUNDS.items():
        assert (bound.passes > bound.fails) if bound.better == "higher" else (bound.passes < bound.fails), name


# -------------------------------------------------------------------------------------------------------- other pairs


def test_other_captions_and_pictures_are_others() -> None:
    pairs = list(Scenes(count=MANY, seed=5))
    for own, other in zip(pairs, other_captions(pairs), strict=True):
        assert own.image is other.image
        assert not [thing for thing in own.objects if thing.name in other.caption.split()]
    for own, other in zip(pairs, other_images(pairs), strict=True):
        assert own.caption == other.caption
        assert own.image is not other.image
    for own, other in zip(pairs, nonsense(pairs, 0), strict=True):
        assert len(own.caption.split()) == len(other.caption.split())
        assert not set(own.caption.split()) & set(other.caption.split())


def test_of_a_worded_caption_its_own_words_are_taken() -> None:
    plain = Map(np.array([1.0, 2.0]), ("a", "cat"))
    worded = Map(np.arange(5.0), ("a", "photo", "of", "a", "cat"))
    found = inner("a photo of {}", worded, plain)
    assert found is not None
    assert found.scores.tolist() == [3.0, 4.0]
    assert inner("a photo {}", worded, plain) is None


# ------------------------------------------------------------------------------------------------------ JSON and page


def test_json_and_back(scenes: Audit, tmp_path: Path) -> None:
    scenes.save(tmp_path / "audit.json")
    assert Audit.load(tmp_path / "audit.json") == scenes
    told = json.loads((tmp_path / "audit.json").read_text())
    assert (told["schema"], told["kind"], told["verdict"]) == (1, "audit", scenes.verdict)
    (tmp_path / "audit.json").write_text("{}")
    with pytest.raises(BadInput, match="no audit"):
        Audit.load(tmp_path / "audit.json")


def test_the_page_stands_alone(scenes: Audit) -> None:
    found = check_page(page(scenes))
    assert not re.search(r"https?://|<script|<link|@import", found)
    assert found.count("data:image/png;base64,") == 3 * 6, "examples and their tiles"
    assert all(check.about.split(" ")[0] in found for check in scenes.checks)
    assert found.count('class="gauge"') == len(scenes.checks)


# ------------------------------------------------------------------------------------------------------------- errors


def test_too_few_pairs_or_all_the_same() -> None:
    model = tiny.model("clip")
    with pytest.raises(BadInput, match=rf"at least {LEAST_PAIRS} pairs.*\(got 3\)"):
        nibt.audit(model, noise_pairs(MANY)[:3])
    with pytest.raises(BadInput, match="all 8 captions are the same"):
        nibt.audit(model, [replace(pair, caption="a red cat") for pair in noise_pairs(MANY)])
    with pytest.raises(UnknownName, match="Did you mean 'nib'"):
        nibt.audit(model, noise_pairs(MANY), "nibb")
    with pytest.raises(BadOption, match="seed"):
        nibt.audit(model, noise_pairs(MANY), seed=-1)


def test_weights_that_change_meanwhile_are_told() -> None:
    model: Model = deepcopy(tiny.fresh("clip"))

    def train(progress: Progress) -> None:
        with torch.no_grad():
            next(model.module.parameters()).add_(1e-3)

    with pytest.raises(nibt.NibtError, match="changed while it was audited"):
        nibt.audit(model, noise_pairs(MANY), "ones", quick=True, on_progress=train)


# -------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of one's own."""
    made = tmp_path / "data"
    made.mkdir()
    lines = ["image,caption"]
    for place, pair in enumerate(noise_pairs(MANY)):
        pair.image.pil_image.save(made / f"{place}.png")
        lines.append(f"{place}.png,{pair.caption}")
    (made / "pairs.csv").write_text("\n".join(lines) + "\n")
    return made


def test_the_command_writes_a_page_and_a_json_file(
    run: Run, folder: Path, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("audit", clip_folder, f"folder:{folder}", "--quick", "--method", "ones")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "7. Does the model tell right captions from wrong ones?" in out
    assert "wrote audit-clip-folder-data.ones.quick.html, audit-clip-folder-data.ones.quick.json" in out
    found = Audit.load("audit-clip-folder-data.ones.quick.json")
    assert found.data["dataset"] == "folder"
    assert found.data["pairs"] == MANY
    assert found.verdict == "fail"
    assert Path("audit-clip-folder-data.ones.quick.html").read_text().startswith("<!doctype html>")
    monkeypatch.setattr("nibt.evaluation.audit.audit", lambda *_, **__: found)  # once is enough
    code, out, _ = run(*arguments, "--json", "-", "--strict")
    assert code == 1, "a flat map fails, and --strict says so"
    assert json.loads(out)["kind"] == "audit"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["scenes", "--count", "3"], 2, "--count must be at least 8"),
        (["coco"], 2, "give coco:FOLDER"),
        (["scenes:here"], 2, "takes no folder"),
        (["scene"], 2, "Did you mean 'scenes'"),
        (["scenes", "--method", "nibb"], 2, "Did you mean 'nib'"),
        (["scenes", "-D", "mst=2"], 2, "unknown option 'mst'"),
        (["scenes", "-D", "most=two"], 2, "whole number"),
        (["scenes", "-o", "x.json"], 2, "two outputs of this call go to the same file"),
        (["scenes", "-o", "nowhere/x.html"], 1, "does not exist"),
    ],
)
def test_mistakes_are_told(run: Run, clip_folder: Path, arguments: list[str], code: int, told: str) -> None:
    found, out, err = run("audit", clip_folder, *arguments)
    assert found == code, err
    assert told in " ".join(err.split())
    assert "Traceback" not in out + err


def test_a_page_is_of_pictures_that_pillow_reads(scenes: Audit) -> None:
    from base64 import b64decode
    from io import BytesIO

    with Image.open(BytesIO(b64decode(scenes.examples[0].image.partition(",")[2]))) as shown:
        assert shown.size == (128, 128)
