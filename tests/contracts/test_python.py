"""The public names, the values of results, and the inputs that Python users expect."""

import json
import pydoc
import rlcompleter
import subprocess
import sys
from collections.abc import Callable
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.data.images import read_image
from nibt.data.units import WordScore
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput
from nibt.report.image.heatmap import score_map
from nibt.results.explanation import change_image
from nibt.results.pixels import to_pixels
from tests import tiny

MODEL = tiny.model("clip")


IMAGE = tiny.image(64, 48)


def explained(**options: Any) -> nibt.Explanation:
    return nibt.explain(MODEL, IMAGE, "a red cat", steps=2, **options)


RESULTS: dict[str, Callable[[], Any]] = {
    "explanation": explained,
    "labels": lambda: nibt.explain_ranking(MODEL, IMAGE, ["a cat", "two cars"], steps=2),
    "images": lambda: nibt.compare(MODEL, IMAGE, tiny.image(40, 40, 1), steps=2),
    "captions": lambda: nibt.compare(MODEL, nibt.Caption("a cat"), "a red cat", steps=2),
    "regions": lambda: nibt.regions(MODEL, IMAGE, "a red cat", steps=2),
    "decomposition": lambda: nibt.decompose(MODEL, IMAGE, "a red cat"),
    "contributions": lambda: nibt.contributions(MODEL, IMAGE, steps=2),
    "no path": lambda: nibt.explain(MODEL, IMAGE, "a red cat", "gae"),
}


def test_names_are_completed() -> None:
    assert set(nibt.__all__) < set(dir(nibt))
    completer = rlcompleter.Completer({"nibt": nibt})
    actual = [completer.complete("nibt.explain", state) for state in range(4)]
    assert {str(name).rstrip("()") for name in actual} >= {"nibt.explain", "nibt.explain_ranking"}


def test_names_do_not_load_torch() -> None:
    code = "import sys, nibt; dir(nibt); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ipython_completes_names() -> None:
    complete = pytest.importorskip("IPython.core.completer", reason="needs IPython")
    completer = complete.IPCompleter(namespace={"nibt": nibt})
    with complete.provisionalcompleter():
        names = {one.text for one in completer.completions("nibt.expl", 9)}
    assert {"explain", "explain_ranking"} <= {name.rpartition(".")[2] for name in names}


def test_help_lists_every_public_name() -> None:
    assert nibt.__doc__ is not None
    words = nibt.__doc__.replace(",", " ").split()
    assert [name for name in nibt.__all__ if name not in words and name != "NibtError"] == []
    assert "NibtError" in nibt.__doc__
    assert "Explain pairs:" in pydoc.render_doc(nibt, renderer=pydoc.plaintext)


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_results_are_compared_and_hashed_by_value(name: str) -> None:
    one, other = RESULTS[name](), RESULTS[name]()
    assert one == other
    assert hash(one) == hash(other)
    assert len({one, other}) == 1
    assert one != "another thing"
    assert one != RESULTS["explanation" if name != "explanation" else "no path"]()


def test_other_scores_make_another_explanation() -> None:
    assert explained() != explained(image_layer=1)
    assert explained() in [explained()]


@pytest.mark.parametrize("name", sorted(set(RESULTS) - {"contributions"}))
def test_results_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    result = RESULTS[name]()
    result.save(tmp_path / "x.json")
    assert type(result).load(tmp_path / "x.json") == result


@pytest.mark.parametrize("name", sorted(set(RESULTS) - {"contributions"}))
def test_json_has_the_names_of_the_attributes(name: str) -> None:
    result = RESULTS[name]()
    data = {key: value for key, value in result.to_json().items() if key not in ("schema", "kind")}
    check(data, result, name)


def check(data: Any, value: Any, where: str) -> None:
    """Check that plain data stand for a value, key by key."""
    if isinstance(data, dict):
        for key, one in data.items():
            part = value[key] if isinstance(value, dict) else getattr(value, key)
            check(one, part, f"{where}.{key}")
    elif isinstance(value, torch.Tensor | np.ndarray):
        np.testing.assert_allclose(np.array(data, float), np.array(value.tolist(), float), err_msg=where)
    elif isinstance(data, list) and isinstance(value, list | tuple):
        assert len(data) == len(value), where
        for place, (one, part) in enumerate(zip(data, value, strict=True)):
            check(one, part, f"{where}[{place}]")
    elif isinstance(data, list):  # a region
        assert data == list(vars(value).values()), where
    else:
        assert data == value, where


def test_words_are_records() -> None:
    answer = explained()
    assert isinstance(answer.words, tuple)
    assert answer.words == answer.words, "words can be read more than once"
    assert [word.text for word in answer.words] == ["a", "red", "cat"]
    word = answer.words[2]
    assert isinstance(word, WordScore)
    assert word.score == pytest.approx(float(answer.text.scores[list(word.tokens)].sum()))


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_reprs_are_short(name: str) -> None:
    text = repr(RESULTS[name]())
    lines = [line for line in text.splitlines() if not line.startswith("  warning: ")]  # no note is left out
    assert 1 <= len(lines) <= 8
    assert max(map(len, text.splitlines())) <= 240
    assert "tensor(" not in text


def test_reprs_of_models_and_jobs_are_short(tmp_path: Path) -> None:
    assert repr(MODEL).splitlines()[0].startswith(f"Model {MODEL.id} (clip), float32 on cpu")
    job = nibt.batch(MODEL, Scenes(count=2), tmp_path / "job", steps=1)
    assert repr(job).splitlines()[1:] == [f"  nib explains cosine; model {MODEL.id}", "  2 rows, 0 failed"]
    assert "has no job" in repr(nibt.Job(tmp_path))
    assert "tensor" not in repr(Scenes(count=1)[0])


def as_bytes() -> bytes:
    buffer = BytesIO()
    IMAGE.pil_image.save(buffer, "PNG")
    return buffer.getvalue()


def test_bytes_and_open_files_are_images(tmp_path: Path) -> None:
    data, path = as_bytes(), tmp_path / "x.png"
    path.write_bytes(data)
    expected = explained().grid
    with path.open("rb") as stream:
        for source in (data, bytearray(data), memoryview(data), BytesIO(data), stream):
            assert torch.equal(nibt.explain(MODEL, source, "a red cat", steps=2).grid, expected)
        assert not stream.closed
    assert read_image(data).digest == read_image(path).digest
    for source, message in (
        (b"", "empty"),
        (b"no image", "not an image"),
        (BytesIO(b"no image"), "not an image"),
    ):
        with pytest.raises(BadInput, match=message):
            read_image(source)
    path.write_text("text")
    with path.open() as text, pytest.raises(BadInput, match="binary mode"):
        read_image(text)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_arrays_and_tensors_are_batches_of_images(kind: str) -> None:
    arrays = np.stack([np.asarray(tiny.image(40, 40, seed).pil_image) for seed in range(3)])
    batch: Any = torch.from_numpy(arrays).permute(0, 3, 1, 2) if kind == "tensor" else arrays
    answers = nibt.explain(MODEL, batch, "a cat", steps=2)
    assert len(answers) == 3
    for answer, array in zip(answers, arrays, strict=True):
        alone = nibt.explain(MODEL, Image.fromarray(array), "a cat", steps=2)
        assert torch.allclose(answer.grid, alone.grid, atol=1e-5 * float(alone.grid.abs().max()))
    assert len(nibt.explain(MODEL, batch[:1], ["a cat", "a dog"], steps=2)) == 2
    assert len(nibt.compare(MODEL, batch, batch[:1], steps=2)) == 3
    with pytest.raises(BadInput, match="shape"):
        read_image(batch)


def test_heatmap_has_the_pixels_of_the_image() -> None:
    answer = explained()
    heatmap = answer.heatmap()
    assert heatmap.shape == (48, 64)
    assert heatmap.dtype == np.float32
    left, right = round(answer.region.left), round(answer.region.left + answer.region.width)
    assert np.isnan(heatmap[:, :left]).all()
    assert np.isnan(heatmap[:, right:]).all()
    np.testing.assert_array_equal(np.nan_to_num(heatmap), score_map(answer))
    expected = to_pixels(answer.grid, 48, right - left).numpy()
    np.testing.assert_allclose(heatmap[:, left:right], expected, atol=1e-6 * np.abs(expected).max())
    table = RESULTS["regions"]()
    total = sum(table.heatmap(word) for word in range(len(table.words)))
    np.testing.assert_allclose(table.heatmap(), total, atol=1e-6)
    assert RESULTS["images"]().second.heatmap().shape == (40, 40)


def test_load_ignores_an_image_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    IMAGE.pil_image.save(path)
    nibt.explain(MODEL, path, "a red cat", steps=1).save(tmp_path / "x.json")
    assert nibt.Explanation.load(tmp_path / "x.json").image.input is not None
    tiny.image(64, 48, 5).pil_image.save(path)
    assert nibt.Explanation.load(tmp_path / "x.json").image.input is None
    assert json.loads((tmp_path / "x.json").read_text())["sides"]["image"]["image_hash"]


@pytest.mark.parametrize("first", ["photo.jpg", "sample:chelsea", Path("photo.jpg")])
def test_explain_says_what_is_missing(first: Any) -> None:
    with pytest.raises(BadInput, match=r"needs a model, an image and a caption .got two of them.: put the model first"):
        nibt.explain(first, "a cat")


def test_explanations_show_their_picture_without_ipython() -> None:
    """Front ends that do not use IPython look for ``_repr_html_``."""
    explanation = nibt.explain(tiny.model("clip"), tiny.image(40, 40), "a cat", "center")
    assert "data:image/" in unescape(explanation._repr_html_() or "")
    assert change_image(explanation, input=None)._repr_html_() is None
