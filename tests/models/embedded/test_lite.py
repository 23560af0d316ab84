"""Tests of the embedded model ``lite``."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import nibt
from nibt.data.images import read_image, sample_captions
from nibt.models._embedded import embedded
from nibt.report.image.heatmap import score_map
from tests.helpers import ROOT, all_tokens
from tests.suites import few

RECIPE = ROOT / "recipes" / "lite"


@pytest.fixture(scope="module")
def lite() -> nibt.Model:
    return nibt.load_model("lite")


def test_lite_is_small_and_describes_itself(lite: nibt.Model) -> None:
    assert embedded() == ["lite", "scenes"]
    assert lite.folder is not None
    assert sum(file.stat().st_size for file in lite.folder.iterdir()) < 20e6
    assert (lite.folder / "NOTICE.md").exists()
    assert "no people" in lite.defaults["about"]


def test_feature_maps_have_channels_last_in_memory(lite: nibt.Model) -> None:
    """It is much faster on a processor; the embeddings are those of the model's own call."""
    trunk: Any = lite.module
    inputs = lite.image.prepare([read_image("sample:chelsea")])
    layouts = []
    with trunk.visual.trunk.conv_stem.register_forward_pre_hook(lambda _, args: layouts.append(args[0].stride())):
        embedding = lite.image.encode(inputs)
        lite.image.trace(inputs)

    _, rows, columns = inputs.values.shape[1:]
    assert layouts == [(3 * rows * columns, 1, 3 * columns, 3)] * 2
    assert inputs.values.is_contiguous()

    with torch.no_grad():
        own = trunk.encode_image(inputs.values)
    torch.testing.assert_close(embedding, own, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_lite_needs_no_network() -> None:
    """All sockets are blocked before nibt is imported."""
    code = (
        "import socket\n"
        "def closed(*_, **__): raise SystemExit('the network was asked')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = closed\n"
        "import nibt; print(nibt.explain('lite', 'sample:chelsea', 'a cat').similarity)"
    )
    environment = {**os.environ, "HF_HOME": os.devnull, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("baseline", [{}, {"baseline": "blank"}, {"baseline": "mean"}])
def test_lite_sums_meet_a_tolerance(lite: nibt.Model, baseline: dict) -> None:
    for name, caption in sample_captions().items():
        if name == "scene":  # which is drawn
            continue
        answer = nibt.explain(lite, f"sample:{name}", caption, tolerance=0.01, **baseline)
        for side in (answer.image, answer.text):
            path = side.path
            assert path is not None
            change = float(path.at_input - path.at_baseline)
            # nothing is distributed from the mean, so special tokens may keep a share there
            assert float(all_tokens(path)) == pytest.approx(change, abs=0.01 * max(abs(change), 0.01))
            if not baseline.get("baseline") == "mean":
                assert abs(float(path.gap)) <= 0.01 * max(abs(change), 0.01)


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["image", "text"])
def test_lite_gap_decreases_with_the_steps(lite: nibt.Model, modality: str) -> None:
    shares = []
    for steps in (4, 16, 64):
        text = getattr(
            nibt.explain(lite, "sample:chelsea", "a tabby cat", steps=steps, baseline="blank"), modality
        ).path
        shares.append(float(text.gap.abs() / (text.at_input - text.at_baseline).abs()))
    assert shares[2] < 0.01
    assert shares[2] < 0.5 * shares[0], shares


@pytest.mark.slow
def test_lite_points_at_the_named_half_of_a_collage(lite: nibt.Model) -> None:
    cat, cup = nibt.explain(lite, "sample:collage", ["a cat", "a cup of coffee"])
    for answer, left in ((cat, True), (cup, False)):
        scores = torch.from_numpy(score_map(answer)).clamp_min(0)
        half = scores.shape[1] // 2
        share = float(scores[:, :half].sum() / scores.sum())
        assert share > 0.6 if left else share < 0.4, (answer.caption, share)


@pytest.mark.slow
def test_lite_scores_nouns_highest(lite: nibt.Model) -> None:
    answer = nibt.explain(lite, "sample:chelsea", "This is a cat, seen from the side.")
    scores = {word.text: word.score for word in answer.words}
    assert max(scores, key=lambda word: scores[word]) == "cat"


def test_lite_ranks_labels_correctly(lite: nibt.Model) -> None:
    labels = ["a photo of a cat", "a photo of a dog", "a photo of a cup", "a photo of a guitar"]
    assert nibt.rank(lite, "sample:chelsea", labels)[0].label == labels[0]
    assert nibt.rank(lite, "sample:coffee", labels)[0].label == labels[2]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), few([(1, 1), (4000, 3), (3, 4000)], [(4000, 3)]))
def test_lite_explains_extreme_image_sizes(lite: nibt.Model, width: int, height: int) -> None:
    answer = nibt.explain(lite, Image.new("RGB", (width, height), "red"), "a cat 🦄 猫\x07")
    assert answer.image.scores.isfinite().all()
    assert score_map(answer).shape == (height, width)


@pytest.mark.slow
def test_lite_ships_its_centre(lite: nibt.Model) -> None:
    answer = nibt.explain(lite, "sample:chelsea", "a cat", target="centered")
    assert answer.target["image"]["name"] == answer.target["text"]["name"] == "centered"
    assert answer.warnings == ()


@pytest.mark.slow
def test_lite_points_at_objects_in_photographs(lite: nibt.Model, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement of the recipe on a third of the photographs, with wide margins."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import measure

    images = json.loads((shared / "photos/annotations.json").read_text())["images"][::3]
    known = json.loads((RECIPE / "categories.json").read_text())
    rows, _ = measure.image_side(lite, images, shared / "photos", known, "nib")
    pointing, energy = (torch.tensor([row[place] for row in rows["nib"]]).mean() for place in (0, 1))
    prior, chance = (torch.tensor([row[0] for row in rows[kind]]).mean() for kind in ("center prior", "random map"))
    assert len(rows["nib"]) > 15
    assert pointing > max(0.4, float(prior) + 0.1, float(chance) + 0.2)
    assert energy > 0.17
    words = measure.text_side(lite, images, shared / "photos", known, "nib image_steps=1")
    assert sum(words) / len(words) > 0.8


@pytest.mark.slow
def test_lite_signs_mean_presence(lite: nibt.Model, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement of the recipe on a third of the photographs, with wide margins."""
    monkeypatch.syspath_prepend(str(RECIPE))
    import signs

    images = json.loads((shared / "photos/annotations.json").read_text())["images"][::3]
    known = json.loads((RECIPE / "categories.json").read_text())
    absent, named, largest = signs.nouns(lite, images, shared / "photos", known)
    assert len(absent) == 8 * len(images)
    assert sum(absent) / len(absent) > 0.7
    assert sum(named + largest) / len(named + largest) > 0.7


EMPTY = ("a photo of something", "she is very happy", "xyzzy plugh 42")


@pytest.mark.parametrize("caption", few(EMPTY, EMPTY[:1]))
@pytest.mark.parametrize("name", few(["chelsea", "coffee", "rocket", "camera"], ["coffee"]))
def test_lite_scores_captions_that_say_nothing_with_zero(lite: nibt.Model, name: str, caption: str) -> None:
    assert abs(nibt.explain(lite, f"sample:{name}", caption).similarity) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("gray", [0, 128, 255])
def test_lite_scores_blank_images_with_zero(lite: nibt.Model, gray: int) -> None:
    captions = ["a cat", "a truck", "a screen", "a dog", "snow", "a bird"]
    answers = nibt.explain(lite, Image.new("RGB", (640, 480), (gray,) * 3), captions)
    assert max(abs(answer.similarity) for answer in answers) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "caption"), [("collage", "a cat and a cup of coffee"), ("camera", "a camera beside an elephant")]
)
def test_lite_words_have_the_sign_of_their_regions(lite: nibt.Model, name: str, caption: str) -> None:
    words = nibt.explain(lite, f"sample:{name}", caption).words
    sums = nibt.regions(lite, f"sample:{name}", caption).table.sum((1, 2)).tolist()
    largest = max(abs(word.score) for word in words)
    clear = [(word.score, total) for word, total in zip(words, sums, strict=True) if abs(word.score) > 0.1 * largest]
    assert len(clear) >= 2
    assert all(score * total > 0 for score, total in clear)


@pytest.mark.slow
def test_lite_names_add_up(lite: nibt.Model) -> None:
    """A further name adds its own score; one that is absent lowers the similarity."""
    captions = ["a camera", "a tripod", "a camera and a tripod", "a camera and a pizza"]
    camera, tripod, both, wrong = (answer.similarity for answer in nibt.explain(lite, "sample:camera", captions))
    assert wrong < camera < both
    assert both == pytest.approx(camera + tripod, rel=0.2)
