"""Tests of ``nibt.models._mean_states``."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nibt.data.pair import Caption, Pair
from nibt.engine.calibrate import calibrate
from nibt.engine.embeddings import contributions, explain_embeddings
from nibt.engine.explain import compare, explain
from nibt.engine.regions import regions
from nibt.errors import BadInput, BadOption, CannotWrite, WrongBaseline
from nibt.evaluation.measure import measure
from nibt.models._mean_states import MeanStates
from tests import tiny
from tests.helpers import all_tokens
from tests.suites import VARIED, few

IMAGES = [tiny.image(seed=seed) for seed in range(5)]


OBLONG = [tiny.image(90, 30, seed) for seed in range(3)]


CAPTIONS = ["cat", "two cars", "a photo of a cat", "a small gray bird on the mat"]


KINDS = ["clip", "siglip", "siglip naflex", "own vit", "own text both ways", "coca", "bert", "convnext", "timm eva"]


every_kind = pytest.mark.parametrize("kind", few(KINDS, VARIED))


@every_kind
@pytest.mark.parametrize("method", ["nib"])
def test_mean_states_from_a_file_give_complete_maps(kind: str, method: str, tmp_path: Path) -> None:
    model, file = tiny.model(kind), tmp_path / "states.safetensors"
    states = calibrate(model, IMAGES, CAPTIONS, file)
    read = MeanStates.load(file, model)
    assert {key: value.tolist() for key, value in read.tensors.items()} == {
        key: value.tolist() for key, value in states.tensors.items()
    }
    answers = explain(
        model, IMAGES[:3], CAPTIONS[:3], method, baseline=f"mean:{file}", quadrature="gauss", steps=64, layer=1
    )
    for answer in answers:
        for side in (answer.image, answer.text):
            path = side.path
            assert path is not None
            assert float(all_tokens(path)) == pytest.approx(float(path.at_input - path.at_baseline), abs=2e-3)
        inputs = model.image.prepare([answer.image.input])
        cut = model.image.trace(inputs).cut(1)
        with torch.no_grad():
            end = cut.rest(states.state(model.image, inputs, cut.hidden, 1)[None])[0]
        opposite = model.text.encode(model.text.prepare([answer.caption]))
        wanted = torch.cosine_similarity(end, opposite).item()
        assert float(answer.image.path.at_baseline) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_mean_states_of_a_convolutional_trunk_fit_any_grid(tmp_path: Path) -> None:
    model, file = tiny.fresh("convnext", resize="whole"), tmp_path / "states.safetensors"
    calibrate(model, [*IMAGES, *OBLONG], CAPTIONS, file)
    for image in (IMAGES[0], OBLONG[0], tiny.image(30, 120)):
        assert explain(model, image, "cat", baseline=f"mean:{file}").image.scores.isfinite().all()


class TestOneSideOnly:
    """A file serves the sides for which it was computed; the other side keeps its baseline, and the result says so."""

    @pytest.mark.parametrize("method", few(["nib", "grad_cam"], ["nib"]))
    @pytest.mark.parametrize("variant", few(["default", "paper"], ["paper"]))
    @pytest.mark.parametrize("side", ["image", "text"])
    @every_kind
    def test_other_side_keeps_its_baseline(
        self, kind: str, side: str, variant: str, method: str, tmp_path: Path
    ) -> None:
        model, file = tiny.model(kind), tmp_path / "states.safetensors"
        other = "text" if side == "image" else "image"
        calibrate(model, *((IMAGES, ()) if side == "image" else ([], CAPTIONS)), file)
        along = {"along_path": True} if method == "grad_cam" else {}
        options = {"variant": variant, "steps": 2, "quadrature": "riemann", "image_layer": 1, "text_layer": 1, **along}
        actual = explain(model, IMAGES[0], "a cat", method, baseline=f"mean:{file}", **options)
        plain = explain(model, IMAGES[0], "a cat", method, **options)
        wanted = explain(model, IMAGES[0], "a cat", method, **options, **{f"{side}_baseline": f"mean:{file}"})
        assert torch.equal(actual.image.scores, wanted.image.scores)
        assert torch.equal(actual.text.scores, wanted.text.scores)
        assert torch.equal(getattr(actual, other).scores, getattr(plain, other).scores)
        assert actual.method == wanted.method
        kept = "zero" if variant == "paper" else "blank"
        assert actual.method[side]["baseline"] == f"mean:{file}"
        assert actual.method[other]["baseline"] == kept
        lacking = "captions" if other == "text" else "images"
        note = (
            f"has mean states of the {side} side only, since it was computed without {lacking}: the {other} side keeps"
        )
        assert [note in text and text.endswith(repr(kept)) for text in actual.warnings if "mean states" in text] == [
            True
        ]
        assert not [text for text in wanted.warnings if "mean states" in text], "the side was named"

    def test_both_sides_use_mean_states(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, CAPTIONS, tmp_path / "states.safetensors")
        actual = explain(model, IMAGES[0], "a cat", baseline=name)
        assert (actual.method["image"]["baseline"], actual.method["text"]["baseline"]) == (name, name)
        assert not [text for text in actual.warnings if "mean states" in text]

    def test_side_with_its_own_baseline_gives_no_note(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, out=tmp_path / "states.safetensors")
        actual = explain(model, IMAGES[0], "a cat", baseline=name, text_baseline="zero")
        assert (actual.method["image"]["baseline"], actual.method["text"]["baseline"]) == (name, "zero")
        assert not [text for text in actual.warnings if "mean" in text]

    def test_interactions_and_comparisons_keep_the_other_baseline(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, out=tmp_path / "states.safetensors")
        table = regions(model, IMAGES[0], "a cat", baseline=name, steps=2)
        assert any("the text side keeps its baseline 'blank'" in text for text in table.warnings)
        alike = compare(model, IMAGES[0], IMAGES[1], baseline=name)
        assert alike.method["image"]["baseline"] == name
        assert not [text for text in alike.warnings if "mean" in text]

    def test_results_without_warnings_reject_the_missing_side(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, out=tmp_path / "states.safetensors")
        pairs, refusal = [Pair(IMAGES[0], "a cat")], r"no layer 0 of the text tower \(they have none\)"
        with pytest.raises(WrongBaseline, match=refusal):
            measure(model, pairs, ["special_token_share"], baseline=name)
        with pytest.raises(WrongBaseline, match=refusal):
            explain_embeddings(model, Caption("a cat"), torch.ones(1, 12), baseline=name)
        plain = measure(model, pairs, ["special_token_share"], side="image", image_baseline=name)
        assert measure(model, pairs, ["special_token_share"], side="image", baseline=name) == plain
        maps = [
            explain_embeddings(model, IMAGES[0], torch.ones(1, 12), **{key: name}).scores
            for key in ("baseline", "image_baseline")
        ]
        assert torch.equal(*maps)
        tables = [contributions(model, IMAGES[0], **{key: name}) for key in ("baseline", "image_baseline")]
        assert torch.equal(tables[0].vectors, tables[1].vectors)
        assert tables[0].facts["baseline"] == name


class TestRefused:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        calibrate(tiny.model("clip"), IMAGES, CAPTIONS, tmp_path / "states.safetensors", layers=[1, 2])
        return tmp_path / "states.safetensors"

    def test_another_model_is_rejected(self, file: Path) -> None:
        with pytest.raises(WrongBaseline, match=r"belongs to the model CLIPModel in memory.*calibrate this model"):
            explain(tiny.model("clip odd patch"), IMAGES[0], "cat", baseline=f"mean:{file}", layer=1)

    def test_changed_weights_are_rejected(self, file: Path) -> None:
        model = tiny.fresh("clip")
        assert explain(model, IMAGES[0], "cat", baseline=f"mean:{file}", layer=1)
        with torch.no_grad():
            next(model.module.parameters()).mul_(1.01)
        with pytest.raises(WrongBaseline, match="calibrate this model"):
            MeanStates.load(file, model)

    @pytest.mark.parametrize("kind", ["clip", "siglip naflex", "timm vit"])
    def test_another_grid_is_rejected(self, kind: str) -> None:
        model = tiny.fresh(kind, resize="whole")
        states = calibrate(model, OBLONG)
        for image in (tiny.image(30, 90), tiny.image(64, 64)):  # the first has the same number of cells
            inputs = model.image.prepare([image])
            with pytest.raises(WrongBaseline, match=r"for a grid of .*, this image has"):
                states.state(model.image, inputs, model.image.trace(inputs).cut(1).hidden, 1)

    def test_missing_layer_is_rejected(self, file: Path) -> None:
        with pytest.raises(WrongBaseline, match=r"no layer 3 of the image tower \(they have 1, 2\)"):
            explain(tiny.model("clip"), IMAGES[0], "cat", baseline=f"mean:{file}", layer=3)

    @pytest.mark.parametrize(("side", "items"), [("text", (IMAGES, ())), ("image", ([], CAPTIONS))])
    def test_named_side_without_mean_states_is_rejected(self, side: str, items: Any, tmp_path: Path) -> None:
        calibrate(tiny.model("clip"), *items, out=tmp_path / "states.safetensors")
        named = {f"{side}_baseline": f"mean:{tmp_path}/states.safetensors", "layer": 1}
        with pytest.raises(WrongBaseline, match=rf"no layer 1 of the {side} tower \(they have none\)"):
            explain(tiny.model("clip"), IMAGES[0], "cat", **named)

    def test_two_captions_with_states_of_images_are_rejected(self, tmp_path: Path) -> None:
        calibrate(tiny.model("clip"), IMAGES, out=tmp_path / "states.safetensors")
        with pytest.raises(WrongBaseline, match=r"no layer 1 of the text tower \(they have none\)"):
            compare(tiny.model("clip"), Caption("cat"), "dog", baseline=f"mean:{tmp_path}/states.safetensors", layer=1)

    def test_file_of_other_tensors_is_rejected(self, tmp_path: Path) -> None:
        save_file({"image.mean.1": torch.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(WrongBaseline, match="is not a file of mean states"):
            MeanStates.load(tmp_path / "other.safetensors", tiny.model("clip"))

    @pytest.mark.parametrize("content", [b"", b"not at all", b"\xff" * 64])
    def test_file_of_another_format_is_rejected(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(WrongBaseline, match="is not a file of mean states"):
            MeanStates.load(tmp_path / "other", tiny.model("clip"))

    def test_missing_file_is_rejected(self) -> None:
        with pytest.raises(WrongBaseline, match="there is no file"):
            explain(tiny.model("clip"), IMAGES[0], "cat", baseline="mean:nowhere.safetensors")

    def test_model_without_mean_states_is_rejected(self) -> None:
        with pytest.raises(WrongBaseline, match="ships no mean states"):
            explain(tiny.model("clip"), IMAGES[0], "cat", baseline="mean")

    def test_calibrate_without_inputs_is_rejected(self) -> None:
        with pytest.raises(BadInput, match="nothing to calibrate with"):
            calibrate(tiny.model("clip"), [])

    def test_images_of_several_grids_are_rejected(self) -> None:
        with pytest.raises(BadInput, match=r"must have the same grid.* \(got 2 grids\)"):
            calibrate(tiny.fresh("clip", resize="whole"), [IMAGES[0], OBLONG[0]])

    def test_unknown_layers_are_rejected(self) -> None:
        with pytest.raises(BadOption, match=r"between 0 and 3 for this image tower \(got 9\)"):
            calibrate(tiny.model("clip"), IMAGES, layers=[9])
        with pytest.raises(BadOption, match="layers must name at least one layer"):
            calibrate(tiny.model("clip"), IMAGES, layers=[])

    def test_unwritable_path_is_rejected(self, tmp_path: Path) -> None:
        with pytest.raises(CannotWrite, match="does not exist"):
            calibrate("no-such-model", IMAGES, out=tmp_path / "no/such/file")
