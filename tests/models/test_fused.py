"""Models that read an image and a text in one network: their own scores, what adds up, boxes, and what is refused."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from shutil import copytree, rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.ops import box_iou

import nibt
from benchmarks.models import tiny_fused
from nibt.errors import BadInput, BadOption, CannotLoad, Unsupported
from nibt.models.base import Model
from nibt.models.fused import SCORES
from tests import tiny
from tests.helpers import Run
from tests.suites import few

CAPTION = "two red cats"
BLIP = "BlipForImageTextRetrieval"
VILT = "ViltForImageAndTextRetrieval"
OWL = "Owlv2ForObjectDetection"
DINO = "GroundingDinoForObjectDetection"
CLIPSEG = "CLIPSegForImageSegmentation"
MATCHING = [kind for kind, score in SCORES.items() if score.kind == "matching"]
DETECTORS = [kind for kind, score in SCORES.items() if score.kind == "box"]
every_kind = pytest.mark.parametrize("kind", few(list(tiny_fused.MAKERS), (BLIP, VILT, OWL, CLIPSEG)))
IMAGES = [tiny.image(96, 64, 0).pil_image, tiny.image(60, 90, 1).pil_image]


@cache
def folder_of(kind: str) -> Path:
    folder = Path(mkdtemp(prefix="fused-"))
    tiny_fused.save(kind, folder)
    return folder


@cache
def model(kind: str, score: str | None = None) -> Model:
    return nibt.load_model(folder_of(kind), score=score or SCORES[kind].kind)


@cache
def own(kind: str) -> tuple[Any, Any]:
    """Return a model as Transformers loads it, and its processor."""
    module = getattr(transformers, kind).from_pretrained(folder_of(kind)).eval()
    return module, transformers.AutoProcessor.from_pretrained(folder_of(kind))


def encoded(kind: str, image: Image.Image, text: str) -> dict[str, Tensor]:
    """Return what the processor makes of an image and a text, called as its documentation does."""
    processor = own(kind)[1]
    if kind in (OWL, "OwlViTForObjectDetection", DINO, "MMGroundingDinoForObjectDetection"):
        return processor(images=image, text=[[text]], return_tensors="pt")
    if kind == "OmDetTurboForObjectDetection":
        return processor(images=image, text=[text], task=f"Detect {text}.", return_tensors="pt")
    return processor(images=image, text=text, return_tensors="pt")


def outputs(kind: str, inputs: dict[str, Tensor]) -> Any:
    options = {"use_image_text_matching_head": True} if kind == "Blip2ForImageTextRetrieval" else {}
    with torch.no_grad():
        return own(kind)[0](**inputs, **options)


def matching(kind: str, inputs: dict[str, Tensor]) -> float:
    """Return the score of a matching head: the log-odds of the probability of a match, or the only logit."""
    out = outputs(kind, inputs)
    logits = out.itm_score if kind == BLIP else out.logits_per_image if kind.startswith("Blip2") else out.logits
    return float(logits[0, 0] if kind == VILT else logits.softmax(1)[0, 1].logit())


def detections(kind: str, inputs: dict[str, Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return all boxes in pixels of an image, and their probabilities, of the processor's own post-processing."""
    out = outputs(kind, inputs)
    options: dict[str, Any] = {"threshold": 0.0, "target_sizes": [size[::-1]]}
    processor = own(kind)[1]
    if kind == "Sam3Model":
        found = processor.post_process_instance_segmentation(out, **options)[0]
    else:
        options |= {"nms_threshold": 1.0} if kind.startswith("OmDet") else {}
        found = processor.post_process_grounded_object_detection(out, **options)[0]
    return found["boxes"], found["scores"]


def own_score(kind: str, image: Image.Image, text: str) -> float:
    inputs = encoded(kind, image, text)
    if kind in MATCHING:
        return matching(kind, inputs)
    if kind == CLIPSEG:
        logits = outputs(kind, inputs).logits
        mask = logits > 0
        return float(logits[mask].mean() if mask.any() else logits.max())
    return float(detections(kind, inputs, image.size)[1].max())


@every_kind
def test_scores_are_those_of_the_own_call(kind: str) -> None:
    for image in IMAGES:
        explanation = nibt.explain(model(kind), image, CAPTION, "center")
        assert explanation.similarity == pytest.approx(own_score(kind, image, CAPTION), abs=1e-5, rel=1e-5)
        assert explanation.target["image"] == {"name": "score", "value": pytest.approx(explanation.similarity)}
        assert explanation.model["similarity"] == SCORES[kind].kind


@every_kind
def test_a_model_in_memory_has_the_scores_of_its_folder(kind: str) -> None:
    module, processor = own(kind)
    loaded = nibt.load_model(module, processor=processor, score=SCORES[kind].kind)
    actual = nibt.explain(loaded, IMAGES[0], CAPTION, "occlusion")
    expected = nibt.explain(model(kind), IMAGES[0], CAPTION, "occlusion")
    assert torch.allclose(actual.grid, expected.grid, atol=1e-5)
    assert [word.score for word in actual.words] == pytest.approx([word.score for word in expected.words], abs=1e-5)


@pytest.mark.parametrize("kind", few(MATCHING, (BLIP, VILT)))
def test_occlusion_is_the_change_of_the_own_score(kind: str) -> None:
    explanation = nibt.explain(model(kind), IMAGES[0], CAPTION, "occlusion")
    inputs = encoded(kind, IMAGES[0], CAPTION)
    whole = matching(kind, inputs)
    height, width = inputs["pixel_values"].shape[-2:]
    rows, columns = explanation.grid.shape
    for row, column in ((0, 0), (rows - 1, 2)):
        down = [round(height * place / rows) for place in (row, row + 1)]
        across = [round(width * place / columns) for place in (column, column + 1)]
        pixels = inputs["pixel_values"].clone()
        cells = torch.zeros(rows, columns)
        cells[row, column] = 1
        removed = torch.nn.functional.interpolate(cells[None, None], (height, width))[0, 0].bool()
        assert removed[slice(*down), slice(*across)].any()
        pixels[..., removed] = 0
        expected = whole - matching(kind, {**inputs, "pixel_values": pixels})
        assert float(explanation.grid[row, column]) == pytest.approx(expected, abs=1e-4, rel=1e-3)


@pytest.mark.parametrize("kind", few(MATCHING, (BLIP, VILT)))
def test_the_score_of_a_word_is_what_its_removal_costs(kind: str) -> None:
    words = nibt.explain(model(kind), IMAGES[0], CAPTION, "occlusion").words
    whole = own_score(kind, IMAGES[0], CAPTION)
    for word, left in zip(words, ("red cats", "two cats", "two red"), strict=True):
        assert word.score == pytest.approx(whole - own_score(kind, IMAGES[0], left), abs=1e-5)


@pytest.mark.parametrize("kind", few(DETECTORS, (OWL,)))
def test_the_score_of_a_word_of_a_detector_is_of_the_same_box(kind: str) -> None:
    explanation = nibt.explain(model(kind), IMAGES[0], CAPTION, "occlusion")
    boxes, chances = detections(kind, encoded(kind, IMAGES[0], CAPTION), IMAGES[0].size)
    best = boxes[chances.argmax()]
    if kind != "OmDetTurboForObjectDetection":  # which clips its boxes to the image
        assert explanation.box == pytest.approx(best.tolist(), abs=0.06)
        others, their_chances = detections(kind, encoded(kind, IMAGES[0], "two red"), IMAGES[0].size)
        left = float((box_iou(best[None], others)[0] * their_chances).max())
        assert explanation.words[2].score == pytest.approx(float(chances.max()) - left, abs=1e-4)


@every_kind
def test_shapley_values_add_up_to_what_the_inputs_add(kind: str) -> None:
    explanation = nibt.explain(model(kind), IMAGES[0], CAPTION, "shapley", budget=200)
    side = model(kind)
    image = side.image.prepare([nibt.data.images.read_image(IMAGES[0])])
    text = side.text.prepare([CAPTION])
    with torch.no_grad():
        of_image, of_text = side.image.encode(image), side.text.encode(text)
        whole = float(side.similarity(of_image, of_text))
        without_image = float(side.similarity(side.image.blank(image, 0), of_text))
        without_text = float(side.similarity(of_image, side.text.blank(text, 0)))
    assert float(explanation.grid.sum()) == pytest.approx(whole - without_image, abs=1e-4)
    assert sum(word.score for word in explanation.words) == pytest.approx(whole - without_text, abs=1e-4)


@pytest.mark.parametrize("kind", few(MATCHING, (BLIP,)))
def test_the_score_without_words_is_that_of_an_empty_text(kind: str) -> None:
    side = model(kind)
    image = side.image.encode(side.image.prepare([nibt.data.images.read_image(IMAGES[0])]))
    blank = side.text.blank(side.text.prepare([CAPTION]), 0)
    with torch.no_grad():
        assert float(side.similarity(image, blank)) == pytest.approx(own_score(kind, IMAGES[0], ""), abs=1e-5)


@every_kind
def test_scores_do_not_depend_on_the_batch(kind: str) -> None:
    captions = ["a photo of two small red cats", "a bird"]
    together = nibt.explain(model(kind), IMAGES, captions, "occlusion")
    for image, caption, explanation in zip(IMAGES, captions, together, strict=True):
        alone = nibt.explain(model(kind), image, caption, "occlusion")
        assert explanation.similarity == pytest.approx(alone.similarity, abs=1e-5)
        assert torch.allclose(explanation.grid, alone.grid, atol=1e-4)


@every_kind
def test_rankings_are_by_scores(kind: str) -> None:
    labels = ["a bird", "two red cats", "a small dog"]
    ranked = nibt.rank(model(kind), IMAGES[0], labels)
    scores = {label: own_score(kind, IMAGES[0], label) for label in labels}
    assert [each.label for each in ranked] == sorted(labels, key=lambda label: -scores[label])
    for each in ranked:
        assert each.similarity == pytest.approx(scores[each.label], abs=1e-5)
    if kind in MATCHING and kind != VILT:
        assert ranked[0].probability == pytest.approx(float(torch.tensor(ranked[0].similarity).sigmoid()), abs=1e-6)

    by_caption = nibt.rank(model(kind), nibt.Caption(CAPTION), IMAGES)
    assert by_caption[0].similarity == pytest.approx(max(own_score(kind, image, CAPTION) for image in IMAGES), abs=1e-5)


def test_difference_is_that_of_two_scores() -> None:
    explanation = nibt.explain(model(BLIP), IMAGES[0], CAPTION, against="a bird")
    expected = own_score(BLIP, IMAGES[0], CAPTION) - own_score(BLIP, IMAGES[0], "a bird")
    assert explanation.target["value"] == pytest.approx(expected, abs=1e-5)
    assert [word.text for word in explanation.against.words] == ["a", "bird"]


def test_the_default_method_is_replaced_and_a_note_says_so() -> None:
    explanation = nibt.explain(model(VILT), IMAGES[0], CAPTION)
    assert explanation.method["name"] == "occlusion"
    assert any("reads the image and the text in one network: occlusion" in note for note in explanation.warnings)
    with pytest.raises(Unsupported, match="gae needs attention"):
        nibt.explain(model(VILT), IMAGES[0], CAPTION, "gae")


@pytest.mark.parametrize("method", ["banzhaf", "occlusion:paper", "banzhaf units=segments segments=6"])
def test_methods_that_change_inputs(method: str) -> None:
    explanation = nibt.explain(model(BLIP), IMAGES[0], CAPTION, method)
    assert explanation.grid.isfinite().all()
    assert explanation.grid.abs().sum() > 0


# Boxes and masks


def test_boxes_are_chosen_by_number_and_by_point() -> None:
    boxes, chances = detections(OWL, encoded(OWL, IMAGES[0], CAPTION), IMAGES[0].size)
    best = nibt.explain(model(OWL), IMAGES[0], CAPTION, "center")
    second = nibt.explain(model(OWL, "box:1"), IMAGES[0], CAPTION, "center")
    assert best.box != second.box
    assert second.similarity <= best.similarity
    assert second.model["similarity"] == "box:1"

    x, y = 20, 30
    inside = (boxes[:, 0] <= x) & (x <= boxes[:, 2]) & (boxes[:, 1] <= y) & (y <= boxes[:, 3])
    expected = boxes[chances.masked_fill(~inside, -1).argmax()]
    at_point = nibt.explain(model(OWL, f"box:{x},{y}"), IMAGES[0], CAPTION, "center")
    assert at_point.box == pytest.approx(expected.tolist(), abs=0.06)
    assert at_point.similarity >= float(chances[inside].max()) - 1e-6


@pytest.mark.parametrize(
    ("score", "message"), [("box:999", r"between 0 and \d+ for this"), ("box:9000,9000", "no box around the p")]
)
def test_boxes_that_are_not_found(score: str, message: str) -> None:
    loaded = nibt.load_model(folder_of(DINO), score=None)
    assert loaded.similarity.name == "box"
    with pytest.raises((BadInput, CannotLoad), match=message):
        nibt.explain(nibt.load_model(folder_of(DINO), score=score), IMAGES[0], CAPTION, "center")


def test_the_score_at_a_point_of_a_mask() -> None:
    logits = outputs(CLIPSEG, encoded(CLIPSEG, IMAGES[0], CAPTION)).logits[0]
    explanation = nibt.explain(model(CLIPSEG, "mask:72,16"), IMAGES[0], CAPTION, "center")
    row, column = (int(share * side) for share, side in zip((16 / 64, 72 / 96), logits.shape, strict=True))
    assert explanation.similarity == pytest.approx(float(logits[row, column]), abs=1e-5)
    assert explanation.box is None


def test_a_box_is_drawn_and_stored(tmp_path: Path) -> None:
    explanation = nibt.explain(model(OWL), IMAGES[0], CAPTION)
    for name in ("a.png", "a.html", "a.json"):
        explanation.save(tmp_path / name)
    assert nibt.Explanation.load(tmp_path / "a.json").box == explanation.box
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "The score is that of one box, from (" in text
    assert "cosine" not in text.lower()

    options = {key: value for key, value in explanation.target["options"].items() if key != "box"}
    plain = replace(explanation, target={**explanation.target, "options": options})
    plain.save(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()

    data = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    data["target"]["options"]["box"] = ["left", 1, 2, 3]
    (tmp_path / "c.json").write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(BadInput, match="four finite numbers as box"):
        nibt.Explanation.load(tmp_path / "c.json")


# Loading


def test_the_usual_score_stays_without_the_option() -> None:
    for kind in (BLIP, "Blip2ForImageTextRetrieval", OWL, CLIPSEG):
        assert not nibt.load_model(folder_of(kind)).is_fused
        assert not nibt.load_model(folder_of(kind), score="contrastive").is_fused


@pytest.mark.parametrize(
    ("kind", "score", "message"),
    [
        (BLIP, "box", r"got box\): .* has none of this kind, or of its matching \(score=matching\)"),
        (VILT, "contrastive", "has none of this kind"),
        (OWL, "mask", r"has none of this kind, or of its box \(score=box\)"),
        (OWL, "boxes", "score must be contrastive, matching, box, box:NUMBER"),
        (OWL, "box:-1", "score must be contrastive"),
        (OWL, "matching:1", "score must be contrastive"),
        (OWL, 3, "score must be"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_scores_that_a_model_lacks_are_refused(kind: str, score: Any, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.load_model(folder_of(kind), score=score)
    with pytest.raises(BadOption, match="score"):
        nibt.load_model("scenes", score="matching")


def test_a_model_of_open_clip_has_no_other_score() -> None:
    with pytest.raises(BadOption, match=r"got box\): 'lite' has none of this kind"):
        nibt.load_model("lite", score="box")
    assert not nibt.load_model("lite", score="contrastive").is_fused


@every_kind
def test_folder_without_a_processor_is_refused(kind: str, tmp_path: Path) -> None:
    copytree(folder_of(kind), tmp_path / "model")
    for name in ("preprocessor_config.json", "processor_config.json"):
        (tmp_path / "model" / name).unlink(missing_ok=True)
    with pytest.raises(CannotLoad, match="has no processor that Transformers can load"):
        nibt.load_model(tmp_path / "model", score=SCORES[kind].kind)
    rmtree(tmp_path / "model")


@every_kind
def test_folder_that_lacks_weights_is_refused(kind: str, tmp_path: Path) -> None:
    copytree(folder_of(kind), tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    lacking = max(name for name in weights if "norm" not in name.lower() and weights[name].ndim == 2)
    save_file({name: value for name, value in weights.items() if name != lacking}, file, {"format": "pt"})
    with pytest.raises(CannotLoad, match="lacks 1 weights"):
        nibt.load_model(tmp_path / "model", score=SCORES[kind].kind)


def test_folder_of_another_class_is_refused(tmp_path: Path) -> None:
    copytree(folder_of(VILT), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["architectures"] = ["ViltForQuestionAnswering"]
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CannotLoad, match="which is not supported: it "):
        nibt.load_model(tmp_path / "model")


def test_model_in_memory_needs_its_processor() -> None:
    with pytest.raises(CannotLoad, match="a model in memory needs its processor"):
        nibt.load_model(own(VILT)[0])
    with pytest.raises(CannotLoad, match=r"needs the processor of both: pass processor=AutoProcessor"):
        nibt.load_model(own(VILT)[0], processor=own(VILT)[1].image_processor, tokenizer=own(VILT)[1].tokenizer)


@pytest.mark.parametrize("options", [{"image_size": 64}, {"resize": "whole"}])
def test_sizes_of_images_are_those_of_the_processor(options: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match="resize and image_size cannot be set for a model that reads"):
        nibt.load_model(folder_of(VILT), **options)


@pytest.mark.slow
def test_the_detector_of_sam_3_is_read_from_a_checkpoint_with_a_tracker(tmp_path: Path) -> None:
    tiny_fused.save_sam3_with_tracker(tmp_path)
    loaded = nibt.load_model(tmp_path)
    assert type(loaded.module).__name__ == "Sam3Model"
    module = transformers.Sam3Model.from_pretrained(tmp_path).eval()
    processor = transformers.Sam3Processor.from_pretrained(tmp_path)
    with torch.no_grad():
        out = module(**processor(images=IMAGES[0], text=CAPTION, return_tensors="pt"))
    found = processor.post_process_instance_segmentation(out, threshold=0.0, target_sizes=[IMAGES[0].size[::-1]])[0]
    explanation = nibt.explain(loaded, IMAGES[0], CAPTION, "center")
    assert explanation.similarity == pytest.approx(float(found["scores"].max()), abs=1e-6)
    assert explanation.box == pytest.approx(found["boxes"][found["scores"].argmax()].tolist(), abs=0.06)

    videos = transformers.Sam3VideoModel.from_pretrained(tmp_path).eval()
    with pytest.raises(CannotLoad, match=r"pass model\.detector_model with the processor Sam3Processor"):
        nibt.load_model(videos, processor=processor)
    inside = nibt.load_model(videos.detector_model, processor=processor)
    assert nibt.explain(inside, IMAGES[0], CAPTION, "center").box == explanation.box

    (tmp_path / "processor_config.json").unlink()
    with pytest.raises(CannotLoad, match=r"its processor cannot be read|no processor that Transformers can load"):
        nibt.load_model(tmp_path)


# What needs two encoders

CALLS: dict[str, Any] = {
    "regions": lambda loaded: nibt.regions(loaded, IMAGES[0], CAPTION),
    "compare": lambda loaded: nibt.compare(loaded, IMAGES[0], IMAGES[1]),
    "check": lambda loaded: nibt.check(loaded, IMAGES[0], CAPTION),
    "parts": lambda loaded: nibt.parts(loaded, [(IMAGES[0], CAPTION), (IMAGES[1], "a bird")]),
    "calibrate": lambda loaded: nibt.calibrate(loaded, [IMAGES[0]]),
    "contributions": lambda loaded: nibt.contributions(loaded, IMAGES[0], "occlusion"),
    "embeddings": lambda loaded: nibt.explain_embeddings(loaded, IMAGES[0], torch.ones(1, 3), "occlusion"),
    "centered": lambda loaded: nibt.explain(loaded, IMAGES[0], CAPTION, target="centered", against="a bird"),
    "ensemble": lambda loaded: nibt.explain(loaded, IMAGES[0], CAPTION, target="ensemble"),
    "logit": lambda loaded: nibt.explain(loaded, IMAGES[0], CAPTION, target="logit"),
    "attentions": lambda loaded: loaded.attentions("sample:scene"),
}


@pytest.mark.parametrize("call", CALLS)
def test_what_needs_two_encoders_is_refused(call: str) -> None:
    with pytest.raises((BadOption, Unsupported), match=r"one network|sets of vectors|attention over all|layers"):
        CALLS[call](model(BLIP))


def test_softmax_is_of_logits_of_a_match() -> None:
    explanation = nibt.explain(model(VILT), IMAGES[0], CAPTION, "center", "softmax", against=["a bird", "a dog"])
    logits = torch.tensor([own_score(VILT, IMAGES[0], text) for text in (CAPTION, "a bird", "a dog")])
    assert explanation.target["value"] == pytest.approx(float(logits.softmax(0)[0]), abs=1e-5)
    with pytest.raises(BadOption, match="softmax compares logits of candidates, and the score box of"):
        nibt.explain(model(OWL), IMAGES[0], CAPTION, target="softmax", against="a bird")


def test_the_target_score_is_of_these_models() -> None:
    with pytest.raises(BadOption, match="the target score is of models that read both inputs in one network"):
        nibt.explain("scenes", IMAGES[0], CAPTION, target="score")


def test_a_caption_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadInput, match=r"the caption has \d+ tokens, and the model takes 16"):
        nibt.explain(model(OWL), IMAGES[0], "a cat and " * 12)


def test_an_image_that_its_processor_cannot_resize_is_refused() -> None:
    with pytest.raises(BadInput, match="cannot resize an image of 2,000 x 3 pixels"):
        nibt.explain(model(VILT), Image.new("RGB", (2000, 3)), CAPTION)


# The command


def test_the_command_explains_and_reads(run: Run, tmp_path: Path) -> None:
    IMAGES[0].save(tmp_path / "photo.png")
    photo, map_file = str(tmp_path / "photo.png"), str(tmp_path / "map.json")
    code, out, err = run("explain", photo, CAPTION, "-m", str(folder_of(VILT)), "-o", map_file)
    assert code == 0, err
    assert "matching score" in out
    assert nibt.Explanation.load(map_file).model["similarity"] == "matching"

    code, out, err = run("check", str(folder_of(OWL)), "--load", "score=box")
    assert code == 0, err
    shown = dict(line.split(None, 1) for line in out.splitlines())
    assert shown["caption"].startswith("'a photo of a cat' has 5 words, and becomes 7 tokens: <|startoftext|> a</w>")
    assert shown["score"].startswith("box, 0.")
    assert shown["cut"].startswith("none: the model reads the image and the text in one network")
