"""Tests of the families of Hugging Face Transformers: each class keeps its own scores, folders and words."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import nibt
from benchmarks.models import tiny_families
from nibt.core.side import Side
from nibt.errors import CannotLoad, Unsupported
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.preprocessing.images import height_and_width
from nibt.registry import find
from tests import tiny
from tests.helpers import METHODS, QUICK, assert_embeddings_close
from tests.models.saved import agree, edit
from tests.suites import COVER, few

FAMILIES = list(tiny.FAMILIES)
PAIRS = [name for name in FAMILIES if name.endswith("pair")]
SAVED = [name for name in FAMILIES if name not in ("openai", "swin", "naflex", *PAIRS)]
OWN_LOGITS = [name for name in SAVED if name not in ("clipseg segmenter", "owlvit detector", "owlv2 detector")]
"""Classes whose forward pass gives the similarities themselves."""


def inputs_of(kind: str) -> dict[str, Any]:
    """Return two images and two captions, prepared by the processor of the class."""
    built = tiny.ALL[kind]()
    pixels = built.processor.image_processor([tiny.image(seed=seed).pil_image for seed in (0, 1)], return_tensors="pt")
    text = built.tokenizer(list(tiny.CAPTIONS[:2]), return_tensors="pt", padding=True)
    text.pop("token_type_ids", None)
    return {"pixel_values": pixels["pixel_values"], **text}


def own_logits(model: Model, inputs: dict[str, Any]) -> Tensor:
    """Return the similarities by the class itself, captions x images."""
    name = type(model.module).__name__
    with torch.no_grad():
        if name == "BlipForImageTextRetrieval":
            return model.module(**inputs, use_itm_head=False).itm_score.T
        if name == "FlavaForPreTraining":
            return model.module(**inputs, return_loss=False).contrastive_logits_per_text
        if name == "FlavaModel":
            pytest.skip("FlavaModel has no similarities; FlavaForPreTraining has")
        return model.module(**inputs).logits_per_text


@pytest.mark.parametrize("kind", few([name for name in OWN_LOGITS if name != "flava"], COVER))
def test_logits_equal_those_of_the_class(kind: str) -> None:
    model, inputs = tiny.model(kind), inputs_of(kind)
    image = model.image.encode(model.image.prepare([tiny.image(seed=seed) for seed in (0, 1)]))
    text = model.text.encode(model.text.prepare(list(tiny.CAPTIONS[:2])))
    logits = model.scale * model.similarity.to_each(image, text).T + model.bias
    torch.testing.assert_close(logits, own_logits(model, inputs), rtol=1e-4, atol=1e-4 * model.scale)


@pytest.mark.parametrize("kind", few(SAVED, COVER))
def test_saved_folder_gives_the_same_model(kind: str, tmp_path: Path) -> None:
    built = tiny.ALL[kind]()
    built.module.save_pretrained(tmp_path)
    built.processor.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    agree(loaded, tiny.model(kind))
    assert (loaded.scale, loaded.bias) == pytest.approx((tiny.model(kind).scale, tiny.model(kind).bias))


@pytest.mark.parametrize("kind", few(FAMILIES, COVER))
def test_embedding_of_a_caption_is_independent_of_its_batch(kind: str) -> None:
    tower = tiny.model(kind).text
    together = tower.encode(tower.prepare(list(tiny.CAPTIONS)))
    for caption, embedding in zip(tiny.CAPTIONS, together, strict=True):
        assert_embeddings_close(tower.encode(tower.prepare([caption]))[0], embedding)


@pytest.mark.parametrize("kind", few(FAMILIES, COVER))
def test_words_of_a_caption_are_those_that_were_typed(kind: str) -> None:
    tower = tiny.model(kind).text
    words = tower.prepare(["two red cats, a zoo!"]).words
    assert words is not None
    assert [word.text for word in words.words[0]] == ["two", "red", "cats", ",", "a", "zoo", "!"]


def test_words_of_a_chinese_caption_are_its_characters() -> None:
    words = tiny.model("chinese clip").text.prepare(["一只猫和狗的照片"]).words
    assert words is not None
    assert [word.text for word in words.words[0]] == list("一只猫和狗的照片")


@pytest.mark.parametrize("kind", few(FAMILIES, COVER))
def test_families_are_explained(kind: str) -> None:
    answer = nibt.explain(tiny.model(kind), tiny.image(), tiny.CAPTIONS[0], layer=0, steps=1)
    assert answer.image.scores.isfinite().all()
    assert answer.image.scores.any()
    assert any(word.score for word in answer.words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_methods_run_on_every_family(name: str, kind: str) -> None:
    model, options = tiny.model(kind), QUICK.get(name, {})
    traces = {
        "image": model.image.trace(model.image.prepare([tiny.image(seed=seed) for seed in (0, 1)])),
        "text": model.text.trace(model.text.prepare(list(tiny.CAPTIONS[:2]))),
    }
    for side, other in (("image", "text"), ("text", "image")):
        tower = model.tower(side)  # pyright: ignore
        if side in METHODS[name].sides and set(METHODS[name].needs) <= tower.offers:
            method = METHODS[name].configured(tower, "default", options, {})
            opposite = traces[other].embedding
            compare = partial(model.seen_from(side), partner=opposite)  # pyright: ignore
            scores = method(Side(model, traces[side], compare)).scores
            assert scores.isfinite().all()
        elif side in METHODS[name].sides:
            with pytest.raises(Unsupported):
                METHODS[name].configured(tower, "default", options, {})


def test_long_clip_takes_long_captions() -> None:
    tower = tiny.model("long clip").text
    caption = " ".join(["a red cat"] * 30)
    inputs = tower.prepare([caption])
    assert inputs.values.shape == (1, 92)
    assert inputs.notes == ((),)


def test_blank_image_of_a_processor_without_normalization_is_gray() -> None:
    tower = tiny.model("tipsv2").image
    inputs = tower.prepare([tiny.image()])
    assert tower.blank_value == pytest.approx(0.5)
    keep = torch.zeros(1, 32, 32)
    assert (tower.mask_pixels(inputs, keep).values == tower.blank_inputs(inputs).values).all()
    assert torch.equal(tower.mask_pixels(inputs, keep + 1).values, inputs.values)
    assert (tower.shifted(inputs, [(4, 0)]).values[..., -4:, :] == 0.5).all()
    behind = torch.full_like(inputs.values, 0.25)
    assert (tower.mask_pixels(inputs, keep, behind).values == 0.25).all()


def test_region_of_a_processor_that_pads_to_a_square() -> None:
    tower = tiny.model("owlv2").image
    region = tower.preparation.resize.region((90, 30))
    assert (region.left, region.top, region.width, region.height) == (0, 0, 90, 90)


def test_region_of_a_processor_that_squashes_and_crops() -> None:
    tower = tiny.model("align").image
    region = tower.preparation.resize.region((58, 116))
    assert (region.left, region.top, region.width, region.height) == pytest.approx((5, 10, 48, 96))
    inputs = tower.prepare([tiny.image(58, 116)])
    wide = tower.shifted(inputs, [(0, 3)]).values
    assert torch.equal(wide[..., :-3], inputs.values[..., 3:])
    assert wide[..., -3:].any(), "what the crop leaves out is seen"


@pytest.mark.parametrize("kind", ["aimv2", "groupvit", "owlv2"])
def test_towers_of_one_size_reject_others(kind: str) -> None:
    with pytest.raises(Unsupported, match="resize must not be whole for this image tower"):
        tiny.fresh(kind, resize="whole")
    with pytest.raises(Unsupported, match=r"image_size must be 32 for this image tower \(got 64\)"):
        tiny.fresh(kind, image_size=64)


WHOLE = (
    "long clip",
    "tipsv2",
    "aimv2 native",
    "clipseg",
    "blip",
    "flava",
    "owlvit",
    "align",
    "vit bert",
    "clip pair",
)


@pytest.mark.parametrize("kind", few(WHOLE, ["clipseg"]))
def test_other_sizes_are_taken(kind: str) -> None:
    for options in ({"resize": "whole"}, {"image_size": 64}):
        model = tiny.fresh(kind, **options)
        answer = nibt.explain(model, tiny.image(90, 30), "two cars", method="occlusion")
        assert answer.image.scores.any()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("clap", "it compares sounds"), ("xclip", "it compares videos")],
)
def test_models_without_two_towers_of_images_and_text_are_refused(kind: str, reason: str, tmp_path: Path) -> None:
    tiny.ALL["long clip"]().module.save_pretrained(tmp_path)
    edit(tmp_path / "config.json", model_type=kind)
    with pytest.raises(CannotLoad, match=rf"model_type '{kind}', which is not supported: {reason}"):
        load_model(tmp_path)


@pytest.mark.needs("generators")
def test_captioning_checkpoint_of_blip_is_refused(tmp_path: Path) -> None:
    from transformers import BlipForConditionalGeneration

    built = tiny.ALL["blip"]()
    BlipForConditionalGeneration(built.module.config).save_pretrained(tmp_path)
    built.processor.save_pretrained(tmp_path)
    with pytest.raises(CannotLoad, match=r"writes text about images, and does not compare them .*: use nibt answer"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["aimv2", "align", "blip", "clip", "tipsv2"])
def test_older_transformers_are_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = find("models", name)
    monkeypatch.setattr(family, "auto_class", "NoSuchModel")
    with pytest.raises(CannotLoad, match="needs a newer version of Transformers, which has NoSuchModel"):
        family.load("folder", tiny.model("clip").request)


def test_sizes_may_be_two_numbers() -> None:
    for size, expected in ((8, (8, 8)), ([8, 8], (8, 8)), ((42, 70), (42, 70))):
        assert height_and_width(size) == expected


def dual_encoder(vision: str, size: Any = 32, patch: Any = 8, **options: Any) -> tiny.BuiltModel:
    """Return a ``VisionTextDualEncoderModel`` with an image tower of a class, and a processor for its size."""
    tokenizer = tiny_families.bert_tokenizer()
    text = transformers.BertConfig(
        **tiny_families.TEXT, max_position_embeddings=tiny_families.CONTEXT, **tiny_families.ends(tokenizer)
    )
    options = {"image_size": size, "patch_size": patch, **(options or tiny_families.VISION)}
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        getattr(transformers, f"{vision}Config")(**options), text, projection_dim=12
    )
    height, width = height_and_width(size)
    processor = transformers.VisionTextDualEncoderProcessor(
        image_processor=transformers.ViTImageProcessor(size={"height": height, "width": width}), tokenizer=tokenizer
    )
    module = tiny.randomized(lambda: transformers.VisionTextDualEncoderModel(config))
    return tiny.BuiltModel(module, processor, tokenizer)


TOWERS = [
    ("SiglipVision", 32, 8),
    ("ViT", (42, 70), 14),
    ("DeiT", (24, 40), 8),
    ("Dinov2", 42, 14),
    ("Dinov2WithRegisters", 32, 8),
    ("DINOv3ViT", 32, 8),
    ("Beit", 32, 8),
]


@pytest.mark.parametrize(("vision", "size", "patch"), few(TOWERS, TOWERS[:2]))
def test_image_towers_of_a_dual_encoder(vision: str, size: Any, patch: int) -> None:
    built = dual_encoder(vision, size, patch)
    model = load_model(built.module, processor=built.processor)
    images, captions = [tiny.image(seed=seed) for seed in (0, 1)], list(tiny.CAPTIONS[:2])
    image, text = model.image.encode(model.image.prepare(images)), model.text.encode(model.text.prepare(captions))
    inputs = built.processor(text=captions, images=[one.pil_image for one in images], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = built.module(**inputs).logits_per_text
    torch.testing.assert_close(model.scale * model.similarity.to_each(image, text).T, expected, rtol=1e-4, atol=1e-4)
    height, width = height_and_width(size)
    inputs = model.image.prepare(images)
    for layer in range(model.image.depth + 1):
        cut = model.image.trace(inputs).cut(layer)
        assert_embeddings_close(cut.rest(cut.hidden[None])[0], image)
        assert (cut.units.rows, cut.units.columns) == (height // patch, width // patch)  # pyright: ignore
    answer = nibt.explain(model, images[0], captions[0], "gae")
    assert isinstance(answer, nibt.Explanation)
    assert answer.image.scores.isfinite().all()


def test_saved_dual_encoder_with_siglip_gives_the_same_embeddings(tmp_path: Path) -> None:
    built = dual_encoder("SiglipVision")
    built.module.save_pretrained(tmp_path)
    built.processor.save_pretrained(tmp_path)
    agree(load_model(tmp_path), load_model(built.module, processor=built.processor))


@pytest.mark.parametrize("names", [["input_ids"], ["input_ids", "attention_mask"]])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_saved_siglip_gives_the_logit_of_its_documented_call(names: list[str], kernel: str, tmp_path: Path) -> None:
    built = tiny.siglip()
    built.module.save_pretrained(tmp_path)
    tokenizer = tiny.sentence_tokenizer(model_input_names=names)
    transformers.SiglipProcessor(built.processor, tokenizer).save_pretrained(tmp_path)

    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    own = transformers.SiglipModel.from_pretrained(tmp_path, attn_implementation=kernel).eval()
    captions, image = list(tiny.CAPTIONS), tiny.image(30, 30)
    inputs = processor(text=captions, images=image.pil_image, padding="max_length", return_tensors="pt")
    assert ("attention_mask" in inputs) == ("attention_mask" in names)
    with torch.no_grad():
        expected = own(**inputs).logits_per_text[:, 0]

    model = load_model(tmp_path)
    for caption, logit in zip(captions, expected.tolist(), strict=True):
        explanation = nibt.explain(model, image, caption, "nib", steps=2)
        assert isinstance(explanation, nibt.Explanation)
        similarity = (logit - model.bias) / model.scale
        assert explanation.similarity == pytest.approx(similarity, abs=1e-5)
        probability = torch.tensor(logit).sigmoid().item()  # as the page of the class computes it
        assert explanation.match_probability == pytest.approx(probability, abs=1e-5)
        assert f"probability of a match {explanation.match_probability:.3f}" in explanation._repr_html_()
    together = model.text.encode(model.text.prepare(captions))
    image_embedding = model.image.encode(model.image.prepare([image]))
    logits = model.scale * model.similarity.to_each(image_embedding, together)[0] + model.bias
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


def test_mask_of_siglip_changes_its_embeddings() -> None:
    built = tiny.siglip()
    masking = tiny.sentence_tokenizer(model_input_names=["input_ids", "attention_mask"])
    plain, masked = (
        load_model(built.module, processor=built.processor, tokenizer=tokenizer)
        for tokenizer in (built.tokenizer, masking)
    )
    plain_embedding, masked_embedding = (model.text.encode(model.text.prepare(["cat"])) for model in (plain, masked))
    assert not torch.allclose(plain_embedding, masked_embedding, atol=1e-2)


_SWIN = {"embed_dim": 12, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4}


@pytest.mark.parametrize("vision", ["Swin", "Swinv2"])
def test_image_towers_that_are_not_supported_are_refused_in_words(vision: str) -> None:
    built = dual_encoder(vision, 32, 4, **_SWIN)
    expected = f"VisionTextDualEncoderModel with the image tower {vision}Model is supported by no method"
    with pytest.raises(Unsupported, match=expected) as error:
        load_model(built.module, processor=built.processor)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resize": "whole"}, "resize must not be whole for this image tower, which takes images of one size only"),
        ({"image_size": 42}, "image_size must not be set for this image tower, which takes images of 42 x 70 pixels"),
    ],
)
def test_tower_that_is_not_square_takes_one_size(options: dict[str, Any], message: str) -> None:
    built = dual_encoder("ViT", (42, 70), 14)
    with pytest.raises(Unsupported, match=message):
        load_model(built.module, processor=built.processor, **options)


def test_patches_that_are_not_square_are_refused() -> None:
    built = dual_encoder("ViT", (32, 32), (8, 16))
    with pytest.raises(Unsupported, match="patches of 8 x 16, and nibt only square ones"):
        load_model(built.module, processor=built.processor)
