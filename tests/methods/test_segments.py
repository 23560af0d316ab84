"""Tests of segments as units: ``nibt.data.segments``, ``nibt.methods._units`` and ``nibt.data.units.Segments``."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.core.perturbation import masker
from nibt.data.images import read_image
from nibt.data.segments import numbered, read_segments, superpixels
from nibt.data.units import Segments
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.methods.coalition_values import Banzhaf, Shapley
from nibt.methods.masks import Occlusion
from tests import tiny
from tests.helpers import assert_close, captum, make_side

METHODS = ["occlusion", "shapley", "banzhaf", "fixlip"]


def stripes(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return vertical stripes of equal width."""
    return np.broadcast_to(np.arange(width) * count // width, (height, width))


@pytest.fixture
def image_file(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)).save(path)
    return path


def saved(path: Path, labels: np.ndarray) -> str:
    Image.fromarray(labels.astype(np.uint8)).save(path)
    return str(path)


@pytest.mark.parametrize("kind", ["clip", "siglip", "convnext"])
def test_occlusion_of_segments_equals_captum(kind: str) -> None:
    side = make_side(tiny.model(kind), "image")
    method = Occlusion(units="segments", segments=6)
    units = method.units_of(side)
    assert isinstance(units, Segments)
    actual = method.scores(side, units)

    def forward(values: torch.Tensor) -> torch.Tensor:
        return side.score(side.tower.encode(type(side.inputs)(values)))

    wanted = captum("attr.FeatureAblation")(forward).attribute(
        side.inputs.values, 0.0, feature_mask=units.labels[:, None]
    )
    for item, count in enumerate(units.counts):
        for segment in range(count):
            expected = wanted[item, 0][units.labels[item] == segment][0]
            torch.testing.assert_close(actual[item, segment], expected, atol=1e-6, rtol=1e-4)
    assert not actual[0, units.counts[0] :].any()


@pytest.mark.parametrize("name", ["shapley", "banzhaf"])
def test_values_of_few_segments_are_exact(name: str, image_file: Path, tmp_path: Path) -> None:
    """Four stripes: Shapley and Banzhaf values over all orders and all coalitions of the model's own scores."""
    model = tiny.model("clip")
    file = saved(tmp_path / "labels.png", stripes(4))
    image = model.image.trace(model.image.prepare([read_image(str(image_file))]))
    text = model.text.encode(model.text.prepare(["a cat"]))
    side = nibt.core.side.Side(model, image, lambda embedding: torch.cosine_similarity(embedding, text, dim=-1))
    kind: Any = {"shapley": Shapley, "banzhaf": Banzhaf}[name]
    method = kind(units=f"segments:{file}")
    units = method.units_of(side)
    count = units.count
    assert count in (3, 4), "the crop keeps the inner stripes"
    score = masker(side, units)
    values = {
        chosen: float(score(torch.tensor([[float(place in chosen) for place in range(count)]])))
        for size in range(count + 1)
        for chosen in map(frozenset, itertools.combinations(range(count), size))
    }
    for segment in range(count):
        others = [chosen for chosen in values if segment not in chosen]
        gains = [values[chosen | {segment}] - values[chosen] for chosen in others]
        weights = [
            math.factorial(len(one)) * math.factorial(count - len(one) - 1) / math.factorial(count)
            if name == "shapley"
            else 0.5 ** (count - 1)
            for one in others
        ]
        expected = float(np.dot(gains, weights))
        assert float(method.scores(side, units)[0, segment]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_segments_are_spread_over_their_pixels(method: str, image_file: Path, tmp_path: Path) -> None:
    """Each segment has the same score per pixel, and the sums over the segments are the method's scores."""
    model, budget = tiny.model("clip"), {} if method == "occlusion" else {"budget": 40}
    file = saved(tmp_path / "photo.labels.png", stripes(3))
    options = {"units": f"segments:{tmp_path}/{{stem}}.labels.png", **budget}
    answer = nibt.explain(model, str(image_file), "a cat", method, **options)
    assert isinstance(answer, nibt.Explanation)
    sums = answer.image.segment_scores(read_segments(file, (64, 48)))
    assert sums.sum() == pytest.approx(float(answer.image.scores.sum()), abs=1e-5)
    side = nibt.core.side.Side(
        model,
        model.image.trace(model.image.prepare([read_image(str(image_file))])),
        lambda embedding: torch.cosine_similarity(embedding, model.text.encode(model.text.prepare(["a cat"])), dim=-1),
    )
    ready = nibt.registry.find("methods", method).configured(model.image, "default", options, {})
    wanted = ready.scores(side, ready.units_of(side))[0]
    assert_close(torch.from_numpy(sums).float(), wanted, 0.05)
    spread = answer.image.grid
    assert spread.shape[0] > model.image.trace(side.inputs).cut(0).units.rows, "finer than the patches"


@pytest.mark.parametrize("method", METHODS)
def test_tables_of_segments_add_up_to_the_map(method: str) -> None:
    """The table's row for the change of the whole caption is the map of the segments for that vector."""
    model = tiny.model("clip")
    options = {"units": "segments", "segments": 5, **({} if method == "occlusion" else {"budget": 64})}
    table = nibt.regions(model, tiny.image(), "red cat", method=method, **options)
    rows, columns = table.table.shape[1:]
    assert rows * columns > 16, "a grid finer than the patches"
    stored = nibt.contributions(model, tiny.image(), method=method, **options)
    answer = nibt.explain(model, tiny.image(), "red cat", method, **options)
    assert_close(stored.explain("red cat").scores, answer.image.scores, 1e-4)
    assert len({round(value, 6) for value in table.table[0].flatten().tolist()}) < rows * columns


def test_superpixels_depend_on_the_image_alone() -> None:
    together = Occlusion(units="segments", segments=8).units_of(make_side(tiny.model("clip"), "image"))
    model = tiny.model("clip")
    alone = model.image.trace(model.image.prepare([tiny.image(seed=1)]))
    side = nibt.core.side.Side(model, alone, lambda embedding: embedding.norm(dim=-1))
    single = Occlusion(units="segments", segments=8).units_of(side)
    assert isinstance(together, Segments)
    assert isinstance(single, Segments)
    assert torch.equal(together.labels[0], single.labels[0])
    assert single.counts[0] == int(single.labels.max()) + 1


def test_superpixels_follow_edges() -> None:
    pixels = np.zeros((32, 32, 3))
    pixels[:, 16:] = 1.0
    labels = superpixels(pixels, 8)
    assert not set(labels[:, :14].flat) & set(labels[:, 18:].flat), "a segment is on both sides of the smoothed edge"
    assert superpixels(np.zeros((16, 16, 3)), 4).min() == 0, "a flat image has segments, too"


@pytest.mark.parametrize("suffix", [".png", ".npy", ".json", "color.png"])
def test_files_of_segments_hold_the_same_labels(suffix: str, tmp_path: Path) -> None:
    labels = stripes(3)
    path = tmp_path / f"labels{suffix}"
    if suffix == ".npy":
        np.save(path, labels + 5)
    elif suffix == ".json":
        masks = []
        for label in (1, 2):
            flat = (labels == label).T.flatten()
            edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
            counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
            masks.append({"segmentation": {"size": [48, 64], "counts": counts}})
        path.write_text(json.dumps(masks))
    elif suffix == "color.png":
        Image.fromarray(np.stack([labels * 50, labels, 0 * labels], -1).astype(np.uint8)).save(path)
    else:
        Image.fromarray((labels * 40).astype(np.uint8)).save(path)
    assert np.array_equal(read_segments(path, (64, 48)), labels)


def test_numbers_of_segments_start_from_0() -> None:
    assert numbered(np.array([[7, 3], [3, 9]])).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "cannot be read as segments"),
        ("text.png", b"no image", "cannot be read as segments"),
        ("broken.npy", b"no array", "cannot be read as segments"),
        ("broken.json", b"{", "cannot be read as segments"),
        ("empty.npy", b"", "cannot be read as segments"),
        ("deep.json", b"[" * 100_000, "cannot be read as segments"),
        ("empty.json", b"[]", r"^'.*empty.json' must have a list of masks \(got \[\]\)"),
        ("words.json", b'[{"size": [48, 64], "counts": ["a"]}]', "runs of a mask must be whole numbers"),
        ("parts.json", b'[{"size": [48, 64], "counts": [0.5, 3071.5]}]', "runs of a mask must be whole numbers"),
        ("none.json", b'[{"size": [48, 64], "counts": null}]', "runs of a mask must be whole numbers"),
        ("size.json", b'[{"size": 5, "counts": [3072]}]', "must have the size of the image"),
        ("text.json", b'[[["a", "b"]]]', "a polygon must have x and y of at least three points"),
        ("odd.json", b"[3]", "mask 0 must be an RLE with size and counts, or polygons"),
        ("other.json", b'[{"size": [2, 2], "counts": [4]}]', "must have the size of the image"),
    ],
)
def test_bad_files_of_segments_are_refused(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_segments(path, (64, 48))


def test_segments_of_another_size_or_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"size of the image, 48 x 64 \(height x width; got 4 x 4 of uint8\)"):
        read_segments(saved(tmp_path / "small.png", np.zeros((4, 4))), (64, 48))
    np.save(tmp_path / "float.npy", np.zeros((48, 64)))
    with pytest.raises(BadInput, match="must be whole numbers"):
        read_segments(tmp_path / "float.npy", (64, 48))
    np.save(tmp_path / "colors.npy", np.full((48, 64, 3), np.nan))
    with pytest.raises(BadInput, match="must be whole numbers"):
        read_segments(tmp_path / "colors.npy", (64, 48))
    np.save(tmp_path / "number.npy", np.array(3))
    with pytest.raises(BadInput, match="got one number of int64"):
        read_segments(tmp_path / "number.npy", (64, 48))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"units": "pixels"},
            r"units must be words, tower, segments, segments:FILE or refined:NUMBER \(got 'pixels'\)",
        ),
        ({"units": "tower:x"}, "units must be words, tower, segments"),
        ({"units": "segments:"}, "must name a file"),
        ({"units": "segments", "segments": 1}, r"segments must be between 2 and .* \(got 1\)"),
        ({"units": "segments", "views": 2}, "views must be 1 with segments or refined units"),
    ],
)
def test_bad_options_of_segments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "occlusion", **options)


def test_towers_that_take_patches_have_no_segments() -> None:
    with pytest.raises(Unsupported, match="units must be words or tower for a"):
        nibt.explain(tiny.model("siglip naflex"), tiny.image(), "a cat", "occlusion", units="segments")


def test_sums_over_segments_of_any_map() -> None:
    """A map of ones per patch: each half of the image has half of it; what the model does not see has nothing."""
    answer = nibt.explain(tiny.model("clip"), tiny.image(64, 48), "a cat", "ones")
    assert isinstance(answer, nibt.Explanation)
    width, height = answer.image.size
    halves = np.zeros((height, width), int)
    halves[height // 2 :] = 1
    sums = answer.image.segment_scores(halves)
    total = float(answer.image.scores.sum())
    np.testing.assert_allclose(sums, [total / 2, total / 2], rtol=1e-4)
    with pytest.raises(BadInput, match="labels must be whole numbers with the size of the image"):
        answer.image.segment_scores(halves[:-1])


def test_sums_over_segments_take_lists_and_tensors_and_refuse_huge_labels() -> None:
    answer = nibt.explain(tiny.model("clip"), tiny.image(48, 64), "a cat", "occlusion")
    assert isinstance(answer, nibt.Explanation)
    labels = np.zeros((answer.size[1], answer.size[0]), int)
    labels[:5] = 1
    wanted = answer.image.segment_scores(labels)
    for other in (labels.tolist(), torch.from_numpy(labels)):
        assert np.array_equal(answer.image.segment_scores(other), wanted)
    with pytest.raises(BadInput, match="labels must be below the number of pixels"):
        answer.image.segment_scores(labels * 10**9)
    with pytest.raises(BadInput, match="got one value of"):
        answer.image.segment_scores("segments.png")
