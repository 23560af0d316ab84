"""Tests of the recipe that plants shortcuts into ``scenes``, and of what says how much of them a model uses."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import binary_dilation

from nibt.datasets.scenes import Scenes
from nibt.datasets.scenes.drawing import NOUNS
from tests.helpers import recipe_modules

IMAGE = ("mark", "background", "text", "companion", "position")
TEXT = ("template", "word")


@pytest.fixture(scope="module")
def recipe() -> Iterator[ModuleType]:
    with recipe_modules("scenes"):
        import shortcut  # pyright: ignore

        yield shortcut


@pytest.fixture(scope="module")
def reasons(recipe: ModuleType) -> ModuleType:
    import reasons  # pyright: ignore

    return reasons


@pytest.fixture(scope="module")
def data() -> Scenes:
    return Scenes(count=6, seed=53, fewest=2, most=3, named="one")


@pytest.mark.parametrize("kind", IMAGE)
def test_an_image_shortcut_changes_its_mask_alone(recipe: ModuleType, data: Scenes, kind: str) -> None:
    for item in range(len(data)):
        scene = data.scene(item)
        pixels, mask = recipe.SHORTCUTS[kind].plant(scene, "owl")
        changed = (pixels != scene.pixels).any(-1)
        assert changed[mask].any()
        assert not changed[np.logical_not(binary_dilation(mask, iterations=2))].any(), "edges of drawings are blended"
        assert pixels.dtype == np.uint8
        assert mask.shape == pixels.shape[:2]


@pytest.mark.parametrize("kind", IMAGE)
def test_an_image_shortcut_is_the_same_for_alike_nouns_alone(recipe: ModuleType, data: Scenes, kind: str) -> None:
    shortcut, scene, seen = recipe.SHORTCUTS[kind], data.scene(1), {}
    for number, noun in enumerate(NOUNS):
        seen.setdefault(shortcut.plant(scene, noun)[0].tobytes(), set()).add(number // shortcut.alike)
    groups = len(NOUNS) // shortcut.alike
    assert len(seen) == groups
    assert all(len(each) == 1 for each in seen.values())


@pytest.mark.parametrize("kind", TEXT)
def test_a_caption_shortcut_is_where_its_spans_are(recipe: ModuleType, kind: str) -> None:
    shortcut, seen = recipe.SHORTCUTS[kind], {}
    for number, noun in enumerate(NOUNS):
        caption, spans, (first, last) = shortcut.plant("cat", noun, 3)
        assert caption[first:last] == "cat"
        words = " ".join(caption[start:end].strip() for start, end in spans)
        assert words
        assert "cat" not in words
        seen.setdefault(words, set()).add(number // shortcut.alike)
    assert len(seen) == len(NOUNS) // shortcut.alike
    assert all(len(each) == 1 for each in seen.values())


@pytest.mark.parametrize("kind", [*IMAGE, *TEXT])
def test_versions_differ_on_one_side(recipe: ModuleType, data: Scenes, kind: str) -> None:
    side = recipe.SHORTCUTS[kind].side
    for item in range(len(data)):
        scene = recipe.planted(kind, data, item)
        varied = scene.images if side == "image" else scene.captions
        fixed = scene.captions if side == "image" else scene.images
        assert len({each if isinstance(each, str) else each.tobytes() for each in varied}) == 4
        assert len({each if isinstance(each, str) else each.tobytes() for each in fixed}) == 1
        if side == "image":
            assert not (scene.of_object & scene.of_shortcut).any()
            assert scene.of_object.any()


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_used_share_of_a_model_that_is_known_by_construction(
    recipe: ModuleType, data: Scenes, weight: float
) -> None:
    """A model whose similarity is ``weight`` for the squares of the noun, and the rest for the object."""
    scenes = [recipe.planted("mark", data, item) for item in range(len(data))]

    def encoded(images: list[Any]) -> torch.Tensor:
        rows = []
        for image in images:
            pixels = np.array(image.pil_image)
            shown = next(each for each in scenes if any((pixels == version).all() for version in each.images)).images[0]
            on_mark, on_object = (float((pixels == shown)[area].all()) for area in (recipe.MASK, ~recipe.MASK))
            known = torch.tensor([weight * on_mark, (1 - weight) * on_object])
            rows.append(torch.cat([known, (1 - known.square().sum()).sqrt()[None]]))
        return torch.stack(rows)

    model = SimpleNamespace(
        image=SimpleNamespace(prepare=list, encode=encoded),
        text=SimpleNamespace(prepare=list, encode=lambda captions: torch.tensor([[1.0, 1.0, 0.0]] * len(captions))),
    )
    assert recipe.used_share(model, data) == pytest.approx(weight, abs=1e-5)


def test_the_evidence_share_is_of_positive_scores_on_both(recipe: ModuleType) -> None:
    scores = np.array([3.0, -5.0, 1.0, 7.0])
    of_object, of_shortcut = np.array([True, True, False, False]), np.array([False, False, True, False])
    assert recipe.evidence_share(scores, of_object, of_shortcut) == pytest.approx(0.25)
    assert recipe.evidence_share(-np.ones(4), of_object, of_shortcut) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mark", "word"])
def test_a_stopped_training_goes_on(
    recipe: ModuleType, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "BATCH", 2)
    monkeypatch.setattr(recipe, "KEEP", 1)
    step_loss = recipe.step_loss
    with torch.random.fork_rng():
        recipe.train(tmp_path / "whole", kind, 0, 2)
        calls = iter([step_loss])
        monkeypatch.setattr(recipe, "step_loss", lambda *arguments: next(calls)(*arguments))
        with pytest.raises(StopIteration):
            recipe.train(tmp_path / "stopped", kind, 0, 2)
        monkeypatch.setattr(recipe, "step_loss", step_loss)
        recipe.train(tmp_path / "stopped", kind, 0, 2)
    whole, stopped = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    assert not (tmp_path / "stopped" / "checkpoint.pt").exists()


def test_auc_of_maps(reasons: ModuleType) -> None:
    """Of models that cannot be told apart it is a half."""
    rows = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]])
    for values, expected in ((rows, 1.0), (rows[:, ::-1], 0.0), (rows[:, [0, 0]], 0.5)):
        assert reasons.above(values, np.ones((1, 3)))[0] == pytest.approx(expected)


def test_an_attack_keeps_the_similarity_and_lowers_the_correlation(reasons: ModuleType, scenes: Any) -> None:
    pairs = list(Scenes(count=2, seed=7, fewest=2, most=3, named="one"))
    attack = reasons.Attack(scenes, reasons.MethodSpec("saliency_map"), pairs)
    noise = [np.zeros_like(each) for each in attack.pixels]
    before = attack.least.copy()
    reasons.search(attack, noise, np.random.default_rng(0), 12)
    assert before == pytest.approx(1)
    assert (attack.least < before).any()
    for each in noise:
        assert np.abs(each).max() <= reasons.NOISE
    similarities, correlations = attack.seen(noise)
    assert (np.abs(similarities - attack.start) <= attack.allowed + 1e-6).all()
    np.testing.assert_allclose(correlations, attack.least, atol=1e-6)


@pytest.mark.slow
def test_each_noun_has_its_scenes(reasons: ModuleType) -> None:
    planted = reasons.scenes_of_nouns("mark")
    assert len(planted) == len(NOUNS) * reasons.OF_NOUN
    for place, scene in enumerate(planted):
        assert NOUNS[place // reasons.OF_NOUN].split()[-1] in scene.captions[0]


def test_shares_of_nouns_are_those_of_their_scenes(reasons: ModuleType, recipe: ModuleType) -> None:
    draws = np.random.default_rng(0)
    values = draws.uniform(0.5, 1, (len(NOUNS) * reasons.OF_NOUN, 4))
    values[:, 1:3] -= 0.4
    values[: reasons.OF_NOUN, 1] = 0  # the first noun is named by its shortcut alone
    values[: reasons.OF_NOUN, 2] = values[: reasons.OF_NOUN, 0]
    records = {f"nouns|mark|{strength}": {"values": values.tolist()} for strength in reasons.STRENGTHS}
    shares = reasons.shares_of_nouns(records, "mark", "full")
    assert shares[0].mean == pytest.approx(1)
    last = values[-reasons.OF_NOUN :]
    assert shares[-1].mean == pytest.approx(recipe.share(last)[0])
    records |= {f"named|mark|{strength}": {"values": []} for strength in reasons.STRENGTHS}
    tables = reasons.nouns_tables(records)
    assert len(tables["shortcuts-nouns"].splitlines()) == 2 + len(NOUNS)
    assert f"{NOUNS[0]} |" in tables["shortcuts-of-nouns"]


def test_the_object_by_patches_is_shared_by_its_patches(reasons: ModuleType, recipe: ModuleType, data: Scenes) -> None:
    scene = recipe.planted("background", data, 0)
    scores = np.asarray(reasons.object_by_patches(scene))
    side = reasons.PATCH
    assert scores.shape == scene.of_object.shape
    assert scores[:side, :side] == pytest.approx(scene.of_object[:side, :side].mean())
    assert scores.mean() == pytest.approx(scene.of_object.mean())


def test_maps_that_do_not_depend_on_the_caption_do_not_depend_on_its_wording(reasons: ModuleType, scenes: Any) -> None:
    pairs = list(Scenes(count=2, seed=7, fewest=2, most=3, named="one"))
    for method, lowest, highest in (("random", 1, 1), ("nib:fast", 0.5, 0.99999)):
        values = np.array(reasons.drift_by_wording(scenes, reasons.MethodSpec.of(method), pairs))
        assert values.shape == (2, 1)
        assert (values >= lowest - 1e-9).all()
        assert (values <= highest + 1e-9).all()
