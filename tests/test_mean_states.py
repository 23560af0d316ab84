"""Mean states: they are the means, they lie where they belong, and they serve no other model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import tiny
from nibt.data.pair import Caption, Pair
from nibt.engine.calibrate import calibrate
from nibt.engine.embeddings import contributions, explain_embeddings
from nibt.engine.explain import explain
from nibt.engine.interactions import explain_interactions
from nibt.errors import BadInput, BadOption, CannotWrite, WrongBaseline
from nibt.evaluation.measure import measure
from nibt.models._mean_states import MeanStates
from nibt.progress import Progress

IMAGES = [tiny.image(seed=seed) for seed in range(5)]
OBLONG = [tiny.image(90, 30, seed) for seed in range(3)]
CAPTIONS = ["cat", "two cars", "a photo of a cat", "a small grey bird on the mat"]
KINDS = ["clip", "siglip", "siglip naflex", "own vit", "own text both ways", "coca", "bert", "convnext", "timm eva"]

every_kind = pytest.mark.parametrize("kind", KINDS)


def states_of(tower: Any, items: list[Any], layer: int) -> torch.Tensor:
    return torch.cat([tower.trace(tower.prepare([item])).cut(layer).hidden for item in items])


@every_kind
def test_means_of_pictures_by_hand(kind: str) -> None:
    model = tiny.model(kind)
    found = calibrate(model, IMAGES, batch_size=2)
    assert found.layers("image") == [str(layer) for layer in range(model.image.depth + 1)]
    assert found.layers("text") == []
    for layer in range(model.image.depth + 1):
        states = states_of(model.image, IMAGES, layer)
        wanted = states.mean(0) if model.image.positional else states.mean((0, 1))
        torch.testing.assert_close(found.tensors[f"image.mean.{layer}"], wanted, rtol=1e-4, atol=1e-5)


@every_kind
def test_means_of_captions_by_hand(kind: str) -> None:
    """Each caption alone, its rows counted by hand from its last word."""
    tower = tiny.model(kind).text
    found = calibrate(tiny.model(kind), [], CAPTIONS, batch_size=1)
    zero = int(found.facts["zero"])
    for layer in (0, tower.depth):
        after: dict[int, list[torch.Tensor]] = {}
        before: dict[int, list[torch.Tensor]] = {}
        for caption in CAPTIONS:
            cut = tower.trace(tower.prepare([caption])).cut(layer)
            of_words = cut.units.explained[0].nonzero()[:, 0].tolist()
            for row, state in enumerate(cut.hidden[0]):
                place = before.setdefault(row, []) if row < of_words[0] else after.setdefault(row - of_words[-1], [])
                place.append(state)
        mean, first = found.tensors[f"text.mean.{layer}"], found.tensors[f"text.first.{layer}"]
        assert len(mean) == len(after)
        assert len(first) == len(before)
        assert zero == -min(after)
        for place, states in after.items():
            torch.testing.assert_close(mean[zero + place], torch.stack(states).mean(0), rtol=1e-4, atol=1e-5)
        for row, states in before.items():
            torch.testing.assert_close(first[row], torch.stack(states).mean(0), rtol=1e-4, atol=1e-5)


def test_captions_of_any_length_meet_at_their_last_word() -> None:
    """The end token's mean is that of end tokens, the start token's of start tokens, at every length."""
    tower = tiny.model("clip").text
    found = calibrate(tiny.model("clip"), [], CAPTIONS)
    inputs = tower.prepare(["dog", "the two red dogs on the small mat"])
    cut = tower.trace(inputs).cut(2)
    states = found.state(tower, inputs, cut.hidden, 2)
    assert states.shape == cut.hidden.shape
    starts = torch.stack([states_of(tower, [caption], 2)[0, 0] for caption in CAPTIONS]).mean(0)
    ends = torch.stack([states_of(tower, [caption], 2)[0, -1] for caption in CAPTIONS]).mean(0)
    lasts = torch.stack([states_of(tower, [caption], 2)[0, -2] for caption in CAPTIONS]).mean(0)
    for row, length in enumerate([1, 7]):
        count = int(inputs.words.explained[row].sum())
        assert count >= length
        torch.testing.assert_close(states[row, 0], starts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[row, count], lasts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(states[row, count + 1], ends, rtol=1e-4, atol=1e-5)


def test_a_caption_longer_than_all_of_the_sample() -> None:
    tower = tiny.model("clip").text
    found = calibrate(tiny.model("clip"), [], ["cat", "dog"])
    inputs = tower.prepare(["a small grey bird sleeping on the red mat"])
    states = found.state(tower, inputs, tower.trace(inputs).cut(1).hidden, 1)
    words = states[0, inputs.words.explained[0]]
    assert torch.equal(words, words[:1].expand_as(words))  # the one word place that there is


def test_means_do_not_depend_on_the_batch() -> None:
    model = tiny.model("own vit")
    one, other = (calibrate(model, IMAGES, CAPTIONS, batch_size=size) for size in (1, 8))
    assert one.tensors.keys() == other.tensors.keys()
    for key, tensor in one.tensors.items():
        torch.testing.assert_close(tensor, other.tensors[key], rtol=1e-4, atol=1e-5)


def test_some_layers_only() -> None:
    found = calibrate(tiny.model("clip"), IMAGES, CAPTIONS, layers=[1, 3])
    assert found.layers("image") == found.layers("text") == ["1", "3"]


def test_every_item_is_counted() -> None:
    done: list[Progress] = []
    calibrate(tiny.model("clip"), IMAGES, CAPTIONS, batch_size=2, on_progress=done.append)
    total = len(IMAGES) + len(CAPTIONS)
    assert done == [Progress(count, total) for count in (2, 4, 5, 7, total)]


@every_kind
@pytest.mark.parametrize("method", ["nib"])
def test_maps_with_mean_states_from_a_file_are_complete(kind: str, method: str, tmp_path: Path) -> None:
    model, file = tiny.model(kind), tmp_path / "states.safetensors"
    made = calibrate(model, IMAGES, CAPTIONS, file)
    read = MeanStates.load(file, model)
    assert {key: value.tolist() for key, value in read.tensors.items()} == {
        key: value.tolist() for key, value in made.tensors.items()
    }
    answers = explain(
        model, IMAGES[:3], CAPTIONS[:3], method, baseline=f"mean:{file}", quadrature="gauss", steps=64, layer=1
    )
    for answer in answers:
        for side in (answer.image, answer.text):
            told = side.path
            assert told is not None
            assert float(told.sum) == pytest.approx(float(told.at_input - told.at_baseline), abs=2e-3)
            assert abs(float(told.gap)) < 2e-3
        inputs = model.image.prepare([answer.image.input])
        cut = model.image.trace(inputs).cut(1)
        with torch.no_grad():
            end = cut.rest(made.state(model.image, inputs, cut.hidden, 1)[None])[0]
        there = model.text.encode(model.text.prepare([answer.caption]))
        wanted = torch.cosine_similarity(end, there).item()
        assert float(answer.image.path.at_baseline) == pytest.approx(wanted, abs=1e-5)


def test_a_convolutional_trunk_takes_any_grid(tmp_path: Path) -> None:
    model, file = tiny.fresh("convnext", resize="whole"), tmp_path / "states.safetensors"
    calibrate(model, [*IMAGES, *OBLONG], CAPTIONS, file)
    for image in (IMAGES[0], OBLONG[0], tiny.image(30, 120)):
        assert explain(model, image, "cat", baseline=f"mean:{file}").image.scores.isfinite().all()


class TestOneSideOnly:
    """A file serves the sides that it was made for; the other one keeps its baseline, and the result says so."""

    @pytest.mark.parametrize("method", ["nib", "grad_cam"])
    @pytest.mark.parametrize("variant", ["default", "paper"])
    @pytest.mark.parametrize("side", ["image", "text"])
    @every_kind
    def test_the_other_side_keeps_its_baseline(
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
        note = f"has mean states of the {side} side only, since it was made without {lacking}: the {other} side keeps"
        assert [note in text and text.endswith(repr(kept)) for text in actual.warnings if "mean" in text] == [True]
        assert not [text for text in wanted.warnings if "mean" in text], "that was asked for"

    def test_with_images_and_captions_both_sides_are_served(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, CAPTIONS, tmp_path / "states.safetensors")
        actual = explain(model, IMAGES[0], "a cat", baseline=name)
        assert (actual.method["image"]["baseline"], actual.method["text"]["baseline"]) == (name, name)
        assert not [text for text in actual.warnings if "mean" in text]

    def test_a_side_with_a_baseline_of_its_own_is_not_remarked_on(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, out=tmp_path / "states.safetensors")
        actual = explain(model, IMAGES[0], "a cat", baseline=name, text_baseline="zero")
        assert (actual.method["image"]["baseline"], actual.method["text"]["baseline"]) == (name, "zero")
        assert not [text for text in actual.warnings if "mean" in text]

    def test_a_table_and_two_images(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, out=tmp_path / "states.safetensors")
        table = explain_interactions(model, IMAGES[0], "a cat", baseline=name, steps=2)
        assert any("the text side keeps its baseline 'blank'" in text for text in table.warnings)
        alike = explain(model, IMAGES[0], IMAGES[1], baseline=name)
        assert alike.method["image"]["baseline"] == name
        assert not [text for text in alike.warnings if "mean" in text]

    def test_results_that_carry_no_warning_refuse_the_side_that_is_lacking(self, tmp_path: Path) -> None:
        model, name = tiny.model("clip"), f"mean:{tmp_path}/states.safetensors"
        calibrate(model, IMAGES, out=tmp_path / "states.safetensors")
        pairs, refusal = [Pair(IMAGES[0], "a cat")], r"no layer 0 of the text tower \(they have none\)"
        with pytest.raises(WrongBaseline, match=refusal):
            measure(model, pairs, ["special_share"], baseline=name)
        with pytest.raises(WrongBaseline, match=refusal):
            explain_embeddings(model, Caption("a cat"), torch.ones(1, 12), baseline=name)
        plain = measure(model, pairs, ["special_share"], only="image", image_baseline=name)
        assert measure(model, pairs, ["special_share"], only="image", baseline=name) == plain
        maps = [
            explain_embeddings(model, IMAGES[0], torch.ones(1, 12), **{key: name}).scores
            for key in ("baseline", "image_baseline")
        ]
        assert torch.equal(*maps)
        tables = [contributions(model, IMAGES[0], **{key: name}) for key in ("baseline", "image_baseline")]
        assert torch.equal(tables[0].vectors, tables[1].vectors)
        assert tables[0].facts["baseline"] == name


class TestCommands:
    """The two commands of the README, as they stand there."""

    @pytest.fixture
    def model(self, request: pytest.FixtureRequest, clip_folder: Path) -> str:
        return str(clip_folder) if request.param == "a folder" else request.param

    @pytest.mark.parametrize("model", ["lite", "a folder"], indirect=True)
    @pytest.mark.parametrize("captions", [False, True])
    def test_calibrate_then_explain(self, model: str, captions: bool, run: Callable[..., Any], tmp_path: Path) -> None:
        photos = []
        for place, image in enumerate(IMAGES[:2]):
            photos.append(tmp_path / f"{place}.png")
            image.pil_image.save(photos[-1])
        (tmp_path / "captions.txt").write_text("\n".join(CAPTIONS))
        more = ("--captions", tmp_path / "captions.txt") if captions else ()
        code, out, _ = run("calibrate", model, *photos, *more, "--out", "mean.safetensors")
        assert code == 0
        assert ("the text side keeps its default baseline" in out) != captions
        code, out, errors = run(
            "explain", photos[0], "a cat", "-m", model, "--baseline", "mean:mean.safetensors", "--json", "-"
        )
        assert code == 0, errors
        actual = json.loads(out)
        assert actual["method"]["image"]["baseline"] == "mean:mean.safetensors"
        assert actual["method"]["text"]["baseline"] == ("mean:mean.safetensors" if captions else "blank")
        kept = [text for text in actual["warnings"] if "the text side keeps its baseline 'blank'" in text]
        assert len(kept) == (0 if captions else 1)


class TestRefused:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        calibrate(tiny.model("clip"), IMAGES, CAPTIONS, tmp_path / "states.safetensors", layers=[1, 2])
        return tmp_path / "states.safetensors"

    def test_another_model(self, file: Path) -> None:
        with pytest.raises(WrongBaseline, match=r"was made with the model CLIPModel in memory.*calibrate it anew"):
            explain(tiny.model("clip odd patch"), IMAGES[0], "cat", baseline=f"mean:{file}", layer=1)

    def test_the_model_after_its_weights_changed(self, file: Path) -> None:
        model = tiny.fresh("clip")
        assert explain(model, IMAGES[0], "cat", baseline=f"mean:{file}", layer=1)
        with torch.no_grad():
            next(model.module.parameters()).mul_(1.01)
        with pytest.raises(WrongBaseline, match="calibrate it anew"):
            MeanStates.load(file, model)

    @pytest.mark.parametrize("kind", ["clip", "siglip naflex", "timm vit"])
    def test_another_grid(self, kind: str) -> None:
        model = tiny.fresh(kind, resize="whole")
        states = calibrate(model, OBLONG)
        for image in (tiny.image(30, 90), tiny.image(64, 64)):  # the first has as many cells
            inputs = model.image.prepare([image])
            with pytest.raises(WrongBaseline, match=r"for a grid of .*, this image has"):
                states.state(model.image, inputs, model.image.trace(inputs).cut(1).hidden, 1)

    def test_a_layer_that_was_not_calibrated(self, file: Path) -> None:
        with pytest.raises(WrongBaseline, match=r"no layer 3 of the image tower \(they have 1, 2\)"):
            explain(tiny.model("clip"), IMAGES[0], "cat", baseline=f"mean:{file}", layer=3)

    @pytest.mark.parametrize(("side", "items"), [("text", (IMAGES, ())), ("image", ([], CAPTIONS))])
    def test_a_side_that_was_not_calibrated_and_is_named(self, side: str, items: Any, tmp_path: Path) -> None:
        calibrate(tiny.model("clip"), *items, out=tmp_path / "states.safetensors")
        named = {f"{side}_baseline": f"mean:{tmp_path}/states.safetensors", "layer": 1}
        with pytest.raises(WrongBaseline, match=rf"no layer 1 of the {side} tower \(they have none\)"):
            explain(tiny.model("clip"), IMAGES[0], "cat", **named)

    def test_two_captions_with_a_file_of_images(self, tmp_path: Path) -> None:
        calibrate(tiny.model("clip"), IMAGES, out=tmp_path / "states.safetensors")
        with pytest.raises(WrongBaseline, match=r"no layer 1 of the text tower \(they have none\)"):
            explain(tiny.model("clip"), Caption("cat"), "dog", baseline=f"mean:{tmp_path}/states.safetensors", layer=1)

    def test_a_file_of_other_tensors(self, tmp_path: Path) -> None:
        save_file({"image.mean.1": torch.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(WrongBaseline, match="other tensors than mean states"):
            MeanStates.load(tmp_path / "other.safetensors", tiny.model("clip"))

    @pytest.mark.parametrize("content", [b"", b"not at all", b"\xff" * 64])
    def test_a_file_of_something_else(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(WrongBaseline, match="is no file of mean states"):
            MeanStates.load(tmp_path / "other", tiny.model("clip"))

    def test_a_file_that_is_not_there(self) -> None:
        with pytest.raises(WrongBaseline, match="there is no file"):
            explain(tiny.model("clip"), IMAGES[0], "cat", baseline="mean:nowhere.safetensors")

    def test_a_model_that_ships_none(self) -> None:
        with pytest.raises(WrongBaseline, match="ships no mean states"):
            explain(tiny.model("clip"), IMAGES[0], "cat", baseline="mean")

    def test_nothing_to_average(self) -> None:
        with pytest.raises(BadInput, match="nothing to calibrate with"):
            calibrate(tiny.model("clip"), [])

    def test_pictures_of_several_grids(self) -> None:
        with pytest.raises(BadInput, match="2 different grids"):
            calibrate(tiny.fresh("clip", resize="whole"), [IMAGES[0], OBLONG[0]])

    def test_layers_that_are_not_there(self) -> None:
        with pytest.raises(BadOption, match=r"0\.\.3 for this image tower \(got 9\)"):
            calibrate(tiny.model("clip"), IMAGES, layers=[9])
        with pytest.raises(BadOption, match="layers is empty"):
            calibrate(tiny.model("clip"), IMAGES, layers=[])

    def test_a_place_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(CannotWrite, match="does not exist"):
            calibrate("no-such-model", IMAGES, out=tmp_path / "no/such/file")
