"""Tests of the embedded model ``scenes``."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPModel

import nibt
from nibt.data.images import read_image
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import WORDS, Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.engine.encode import encode
from tests.helpers import ROOT, recipe_modules
from tests.suites import few

RECIPE = ROOT / "recipes" / "scenes"


FRESH = 31  # used neither by the recipe nor by the study


@pytest.fixture
def model(scenes: nibt.Model) -> nibt.Model:
    return scenes


@pytest.fixture(scope="module")
def recipe() -> Iterator[None]:
    """The modules of the recipe."""
    with recipe_modules("scenes"):
        yield


def embedded(tower: nibt.Tower, items: list) -> torch.Tensor:
    return F.normalize(encode(tower, items, 50), dim=-1)


def test_scenes_model_is_a_small_clip(model: nibt.Model) -> None:
    assert isinstance(model.module, CLIPModel)
    assert (model.image.depth, model.text.depth) == (12, 12)
    assert sum(weights.numel() for weights in model.module.parameters()) < 5e6
    assert model.folder is not None
    assert sum(file.stat().st_size for file in model.folder.iterdir()) < 10e6
    assert (model.folder / "NOTICE.md").exists()
    assert "64 nouns" in model.defaults["about"]


def test_scenes_model_knows_its_words_as_tokens(model: nibt.Model) -> None:
    for word in (*NOUNS, *(word for word in WORDS if word.isalpha())):
        assert len(model.text.prepare([word]).values[0]) == 3, word
    inputs = model.text.prepare(["a zebra"])
    assert inputs.words is not None
    assert [word.text for word in inputs.words.words[0]] == ["a", "zebra"]
    assert len(inputs.words.words[0][1].tokens) > 1


@pytest.mark.slow
def test_scenes_model_classifies_new_scenes(model: nibt.Model) -> None:
    """The README of the recipe has the numbers for 2,000 scenes; fewer scenes need wider margins."""
    prompts = embedded(model.text, [with_article(noun) for noun in NOUNS])
    for objects, within, least in ((1, 1, 0.92), (2, 3, 0.80)):
        data = Scenes(count=200, seed=FRESH, fewest=objects, most=objects)
        order = (embedded(model.image, [pair.image for pair in data]) @ prompts.T).argsort(1, descending=True)
        actual = [
            all(order[row].tolist().index(NOUNS.index(obj.name)) < within for obj in pair.objects)
            for row, pair in enumerate(data)
        ]
        assert np.mean(actual) >= least


@pytest.mark.slow
def test_scenes_model_retrieves_captions(model: nibt.Model) -> None:
    pairs = list(Scenes(count=100, seed=FRESH, fewest=2, most=2, named="all"))
    seen, captions = embedded(model.image, [p.image for p in pairs]), embedded(model.text, [p.caption for p in pairs])
    assert ((seen @ captions.T).argmax(1) == torch.arange(100)).float().mean() >= 0.85


@pytest.mark.slow
def test_scenes_model_prefers_the_right_noun(model: nibt.Model) -> None:
    """Captions that differ in one noun, in either order, with and without a template."""
    data = Scenes(count=100, seed=FRESH + 1, fewest=2, most=2, named="all")
    images = embedded(model.image, [pair.image for pair in data])
    for form in ("a {} and a {}", "a photo of a {} with a {} ."):
        for turned in (False, True):
            names = [[obj.name for obj in pair.objects][:: -1 if turned else 1] for pair in data]
            wrong = [
                (first, next(n for n in NOUNS[i % 60 :] if n not in (first, last)))
                for i, (first, last) in enumerate(names)
            ]
            right = (images * embedded(model.text, [form.format(*pair) for pair in names])).sum(1)
            other = (images * embedded(model.text, [form.format(*pair) for pair in wrong])).sum(1)
            assert (right > other).float().mean() >= 0.9


def test_scenes_model_ships_mean_states(model: nibt.Model) -> None:
    pair = Scenes(count=1, seed=FRESH, fewest=2)[0]
    for layer in (0, 6, 12):
        answer = nibt.explain(model, pair.image, pair.caption, target="centered", layer=layer, baseline="mean")
        assert isinstance(answer, nibt.Explanation)
        flat = sum("is flat" in warning for warning in answer.warnings)
        assert flat == (2 if layer == 12 else 0), "after the last block, only one row is read"
        assert answer.target["image"]["name"] == answer.target["text"]["name"] == "centered"


@pytest.mark.slow
def test_scenes_model_maps_follow_the_caption(model: nibt.Model) -> None:
    """Each object of a scene is named in turn."""
    scenes = Scenes(count=60, seed=FRESH + 2, fewest=2, most=2, named="all", template=False)
    pairs = []
    for pair in scenes:
        for obj in pair.objects:
            caption = with_article(obj.name)
            span = (len(caption) - len(obj.name), len(caption))
            objects = tuple(Object(o.name, o.box, o.mask, (span,) if o is obj else ()) for o in pair.objects)
            pairs.append(Pair(pair.image, caption, objects))
    rows = nibt.measure(model, pairs, ["pointing_game", "own_object"], side="image", batch_size=60)
    mean = {
        name: np.mean([row.value for row in rows if row.metric == name]) for name in ("pointing_game", "own_object")
    }
    assert mean["pointing_game"] > 0.85
    assert mean["own_object"] > 0.9


@pytest.mark.slow
def test_scenes_model_table_distinguishes_two_objects(model: nibt.Model) -> None:
    right, count = 0, 0
    for pair in Scenes(count=25, seed=FRESH + 3, fewest=2, most=2, named="all"):
        actual = nibt.regions(model, pair.image, pair.caption)
        assert isinstance(actual, nibt.Regions)
        for obj in pair.objects:
            grid = actual.for_words(obj.name)
            row, column = divmod(int(grid.argmax()), grid.shape[1])
            cell = 128 / grid.shape[0]
            assert obj.mask is not None
            right += bool(obj.mask[int((row + 0.5) * cell), int((column + 0.5) * cell)])
            count += 1
    assert right / count > 0.85


@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize("network", few(["clip", "siglip"], ["siglip"]))
def test_scenes_networks_train_as_they_are_loaded(network: str, tmp_path: Path) -> None:
    """The recipe computes the embeddings itself, from some of the patches; those of all must be those of nibt."""
    from train import Training  # pyright: ignore

    with torch.random.fork_rng():
        training = Training(network)
    training.model.eval().save_pretrained(tmp_path)
    training.architecture.processor().save_pretrained(tmp_path)
    model = nibt.load_model(tmp_path)
    assert model.scale == pytest.approx(1 / 0.07, rel=1e-3)
    scenes, pairs = Scenes(seed=FRESH), list(Scenes(count=3, seed=FRESH))
    turned = torch.arange((128 // training.architecture.PATCH) ** 2).flip(0).expand(3, -1)
    with torch.no_grad():
        drawn = [scenes.scene(item) for item in range(3)]
        seen = training.seen(drawn)
        in_another_order = training.seen(drawn, turned)
        read = training.read([pair.caption for pair in pairs])
    torch.testing.assert_close(seen, in_another_order, atol=1e-5, rtol=0)
    torch.testing.assert_close(embedded(model.image, [pair.image for pair in pairs]), seen, atol=1e-5, rtol=0)
    torch.testing.assert_close(embedded(model.text, [pair.caption for pair in pairs]), read, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.usefixtures("recipe")
@pytest.mark.parametrize(("network", "log"), [("clip", "log.jsonl"), ("siglip", "log-siglip.jsonl")])
def test_scenes_recipe_reproduces_the_logged_losses(network: str, log: str) -> None:
    """Only the first steps, as training amplifies the rounding of a processor; `train.py --stop 200` runs more."""
    from muon import Muon  # pyright: ignore
    from train import Training, optimizers, rate_at, step_loss  # pyright: ignore

    logged = [json.loads(line) for line in (RECIPE / log).read_text().splitlines()]
    with torch.random.fork_rng():
        training = Training(network)
    optimizers_ = optimizers(training.model, 2e-3)
    assert isinstance(optimizers_[0], Muon)
    for step in range(2):
        for optimizer, full in zip(optimizers_, (4e-3, 2e-3), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = full * rate_at(step, training.course)
        loss = step_loss(training, step)
        assert loss.item() == pytest.approx(logged[step]["loss"], rel=1e-4)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), 1.0)
        for optimizer in optimizers_:
            optimizer.step()
            optimizer.zero_grad()


@pytest.mark.parametrize("call", few([nibt.explain, nibt.regions], [nibt.explain]))
def test_scenes_states_its_domain_with_images_of_other_sizes(model: nibt.Model, call: Any) -> None:
    """Every drawn scene has its size; a photograph has not."""
    domain = model.defaults["domain"]
    assert domain in call(model, "sample:chelsea", "a cat").warnings
    assert domain not in call(model, Scenes(1, seed=5)[0].image, "a cat").warnings
    two = nibt.compare(model, Scenes(1, seed=5)[0].image, read_image("sample:chelsea"), "center")
    assert f"second: {domain}" in two.warnings
    assert f"first: {domain}" not in two.warnings
    assert {pair.image.size for pair in Scenes(20, seed=6)} == {tuple(model.defaults["domain_size"])}
