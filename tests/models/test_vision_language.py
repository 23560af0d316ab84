"""Embedders on vision-language models: the cut, the units, the prompts and the errors."""

import copy
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model

import nibt
from benchmarks.models.tiny_vision_language import EMBEDDERS, LATE
from nibt.data.units import Grid
from nibt.errors import BadInput, BadOption, CannotLoad, Unsupported
from nibt.methods.base import pair_methods
from nibt.models.base import Tower
from tests import tiny
from tests.helpers import assert_close
from tests.suites import few
from tests.tiny_vision_language import KINDS, built, loading, model

CAPTIONS = ["a photo of a cat and a dog", "two cars"]
IMAGES = [tiny.image(64, 48, 0), tiny.image(64, 48, 3)]


def tower(kind: str, modality: str) -> tuple[Tower, list]:
    return (model(kind).image, IMAGES) if modality == "image" else (model(kind).text, CAPTIONS)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_cut_gives_the_own_embedding_at_every_layer(kind: str, modality: str) -> None:
    side, items = tower(kind, modality)
    trace = side.trace(side.prepare(items))
    for layer in range(side.depth + 1):
        cut = trace.cut(layer)
        with torch.no_grad():
            replayed = cut.rest(torch.stack([cut.hidden, cut.hidden]))
        torch.testing.assert_close(replayed, trace.embedding.expand_as(replayed), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_embedding_of_an_image_is_that_of_the_model_itself(kind: str) -> None:
    plain, side = built(kind), model(kind).image
    prompt = model(kind).request.embedding["image_prompt"]
    for item in IMAGES:
        images = [[item.pil_image]] if kind in ("idefics3", "smolvlm") else [item.pil_image]
        inputs = plain.processor(text=[prompt], images=images, return_tensors="pt")
        inputs.pop("labels", None)
        with torch.no_grad():
            own = plain.module.model(**inputs, use_cache=False).last_hidden_state[:, -1]
        torch.testing.assert_close(side.encode(side.prepare([item])), own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", LATE)
def test_vectors_are_those_of_the_model_itself(kind: str) -> None:
    plain, loaded = built(kind), model(kind)
    pictures = plain.processor.process_images([IMAGES[0].pil_image])
    pictures.pop("labels", None)
    with torch.no_grad():
        images = plain.module(**pictures).embeddings
        queries = plain.module(**plain.processor.process_queries(CAPTIONS[:1])).embeddings
    torch.testing.assert_close(loaded.image.encode(loaded.image.prepare(IMAGES[:1])), images, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(loaded.text.encode(loaded.text.prepare(CAPTIONS[:1])), queries, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_embedding_does_not_depend_on_the_batch(kind: str, modality: str) -> None:
    side, items = tower(kind, modality)
    together = side.encode(side.prepare(items))
    for row, item in zip(together, items, strict=True):
        alone = side.encode(side.prepare([item]))[0]
        row = row[: len(alone)] if kind in LATE else row  # vectors of padding are zeros
        assert_close(row, alone, least=1e-5)


def test_nothing_of_the_image_passes_by_a_layer_that_is_narrowed() -> None:
    side = model("qwen3_vl").image
    trace = side.trace(side.prepare(IMAGES))
    assert trace.additions == 2
    assert [trace.cut(layer).hidden.shape[-1] for layer in range(4)] == [96, 64, 32, 32]
    for layer in range(3):
        cut = trace.cut(layer)
        with torch.no_grad():
            first, second = cut.rest(torch.zeros_like(cut.hidden)[None])[0]
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_pixels_return_to_the_patches_of_the_processor(kind: str) -> None:
    side = model(kind).image
    encoded = side.encode_image(IMAGES[0])  # pyright: ignore
    inputs = side.prepare(IMAGES[:1])
    assert inputs.values.shape[-2:] == side.extent(inputs)
    assert torch.equal(side.layout.arguments(inputs)["pixel_values"], encoded["pixel_values"])  # pyright: ignore


@pytest.mark.parametrize("kind", ["qwen2_vl", "smolvlm", "paligemma"])
def test_cells_are_where_the_pixels_are(kind: str) -> None:
    """Hiding the pixels of a cell mostly changes the state of its token most, before the decoder mixes tokens."""
    side = model(kind).image
    inputs = side.prepare(IMAGES[:1])
    height, width = side.extent(inputs)
    first = side.trace(inputs).cut(0)
    grid = first.units
    assert isinstance(grid, Grid)
    hits = 0
    for cell in range(grid.count):
        keep = torch.ones(1, grid.count)
        keep[0, cell] = 0
        pixels = F.interpolate(grid.unfold(keep)[:, None], (height, width), mode="nearest")[:, 0]
        masked = side.trace(side.mask_pixels(inputs, pixels)).cut(0).hidden
        hits += int((masked - first.hidden)[0, list(grid.tokens)].norm(dim=-1).argmax()) == cell
    assert hits > 0.5 * grid.count


@pytest.mark.parametrize("kind", ["idefics3", "smolvlm", "colmodernvbert"])
def test_tiles_form_one_grid_with_an_overview(kind: str) -> None:
    side = model(kind).image
    grid = side.trace(side.prepare(IMAGES[:1])).cut(0).units
    assert isinstance(grid, Grid)
    assert (grid.rows, grid.columns) == (4, 4)
    assert grid.overview is not None
    assert len({*grid.tokens, *grid.overview.tokens}) == 20
    scores = torch.rand(2, max(grid.overview.tokens) + 3)
    kept = grid.keep(scores)
    torch.testing.assert_close(kept.sum(-1), scores[:, [*grid.tokens, *grid.overview.tokens]].sum(-1))
    assert kept[0, 0] == scores[0, grid.tokens[0]] + scores[0, grid.overview.tokens[0]] / 4


@pytest.mark.parametrize("kind", ["qwen3_vl", "smolvlm"])
def test_contributions_give_the_map_of_explain(kind: str) -> None:
    answer = nibt.explain(model(kind), IMAGES[0], CAPTIONS[0])
    contributed = nibt.contributions(model(kind), IMAGES[0]).explain(CAPTIONS[0])
    assert isinstance(answer, nibt.Explanation)
    scale = float(answer.image.scores.abs().max())
    torch.testing.assert_close(contributed.scores, answer.image.scores, atol=1e-5 * scale, rtol=1e-4)


def test_image_of_the_mean_color_keeps_its_tiles() -> None:
    side = model("smolvlm").image
    inputs = side.prepare(IMAGES[:1])
    blank = side.blank(inputs, side.depth)
    assert blank.shape == side.trace(inputs).cut(side.depth).hidden.shape
    assert blank.isfinite().all()


def test_words_are_those_of_the_caption_and_not_of_the_prompt() -> None:
    words = model("qwen2_vl").text.tokens("a photo of a cat")  # pyright: ignore
    assert [word.text for word in words.words] == ["a", "photo", "of", "a", "cat"]
    assert [words.texts[row] for row, own in enumerate(words.explained) if own] == ["a", "photo", "of", "a", "cat"]
    assert words.texts[:2] == ("<|im_start|>", "user")


def test_tokens_of_images_and_turns_in_a_caption_are_noted() -> None:
    for kind, piece in (("colqwen2", "<|image_pad|>"), ("colqwen2", "<|im_end|>"), ("colpali", "<image>")):
        (note,) = model(kind).text.prepare([f"a {piece} cat"]).notes[0]
        assert note.startswith(f"the caption has {piece!r}, a special token of the model")
        assert model(kind).text.prepare(["a cat"]).notes == ((),)


def test_share_of_the_prompt_is_reported() -> None:
    answer = nibt.explain(model("qwen2_vl"), IMAGES[0], CAPTIONS[0])
    assert 0 < float(answer.image.special_token_share) < 1  # pyright: ignore
    assert "max_sim" not in answer.model.values()  # pyright: ignore


def test_mean_pooling_averages_all_tokens_of_the_prompt() -> None:
    plain = built("qwen2_vl")
    loaded = nibt.load_model(plain.module, processor=plain.processor, pooling="mean")
    ids = loaded.text.prepare(CAPTIONS[:1])
    with torch.no_grad():
        states = plain.module.model(input_ids=ids.values, attention_mask=ids.extra["attention_mask"]).last_hidden_state
    torch.testing.assert_close(loaded.text.encode(loaded.text.prepare(CAPTIONS))[0], states.mean(1)[0])


def test_known_checkpoint_numbers_tokens_in_order(tmp_path: Path) -> None:
    plain = built("qwen2_vl")
    folder = tmp_path / "gme-Qwen2-VL-2B-Instruct"
    plain.module.save_pretrained(folder)
    plain.processor.save_pretrained(folder)
    loaded = nibt.load_model(folder)
    assert loaded.record()["positions"] == "sequential"
    assert loaded.record()["text_prompt"].endswith("<|im_start|>assistant\n<|endoftext|>")
    side = loaded.image
    inputs = side.prepare(IMAGES[:1])
    network = side.network  # pyright: ignore
    patches = side.layout.arguments(inputs)  # pyright: ignore
    with torch.no_grad():
        seen = network.base.visual(patches["pixel_values"], grid_thw=patches["image_grid_thw"]).pooler_output
        embeds = network.base.get_input_embeddings()(inputs.extra["input_ids"])
        embeds[inputs.extra["input_ids"] == loaded.module.config.image_token_id] = seen  # pyright: ignore
        own = network.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state[:, -1]
    torch.testing.assert_close(side.encode(inputs), own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", few(KINDS, ["qwen2_vl", "smolvlm", "colpali"]))
def test_saved_model_gives_the_same_embeddings(kind: str, tmp_path: Path) -> None:
    plain = built(kind)
    plain.module.save_pretrained(tmp_path)
    plain.processor.save_pretrained(tmp_path)
    loaded = nibt.load_model(tmp_path, **loading(kind))
    for own, items in ((loaded.image, IMAGES), (loaded.text, CAPTIONS)):
        before = model(kind).tower(own.modality)
        torch.testing.assert_close(
            own.encode(own.prepare(items)), before.encode(before.prepare(items)), atol=1e-6, rtol=1e-5
        )


EXPLAINED = [
    (kind, method)
    for kind in ("qwen3_vl", "colqwen2", "colmodernvbert")
    for method in [*pair_methods(), *(["similarity_map"] if kind in LATE else [])]
]


@pytest.mark.parametrize(("kind", "method"), few(EXPLAINED, [case for case in EXPLAINED if case[0] == "colqwen2"]))
def test_methods_explain_both_sides(kind: str, method: str) -> None:
    loaded = model(kind)
    options = {"rise": {"masks": 8}, "shapley": {"budget": 20}, "m2ib": {"image_steps": 2, "text_steps": 2}}
    answer = nibt.explain(loaded, IMAGES[0], CAPTIONS[0], method, **options.get(method, {}))
    assert isinstance(answer, nibt.Explanation)
    assert answer.image.scores.isfinite().all()
    assert answer.text.scores.isfinite().all()


def test_model_that_says_nothing_of_its_pooling_is_refused() -> None:
    plain = built("qwen2_vl")
    with pytest.raises(
        CannotLoad,
        match=r"nothing says that or how it embeds: .* pass pooling \(--load pooling=...\), which is",
    ):
        nibt.load_model(plain.module, processor=plain.processor)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "first"}, "pooling must be one of last, mean"),
        ({"pooling": "last", "text_prompt": "no place"}, "text_prompt must contain {text} exactly once"),
        ({"pooling": "last", "image_prompt": "no image"}, "image_prompt must contain the model's image token"),
    ],
)
def test_wrong_prompts_are_refused(options: dict, message: str) -> None:
    plain = built("qwen2_vl")
    with pytest.raises(BadOption, match=message):
        nibt.load_model(plain.module, processor=plain.processor, **options)


@pytest.mark.parametrize("kind", ["qwen2_vl", "colqwen2"])
@pytest.mark.parametrize("options", [{"image_size": 224}, {"resize": "whole"}])
def test_size_of_images_is_that_of_the_processor(kind: str, options: dict) -> None:
    plain = built(kind)
    with pytest.raises(BadOption, match="must not be set for this model, whose processor resizes images"):
        nibt.load_model(plain.module, processor=plain.processor, **loading(kind), **options)


def test_dual_encoder_takes_no_pooling() -> None:
    plain = tiny.KINDS["clip"]()
    with pytest.raises(BadOption, match="pooling is for embedders on vision-language models"):
        nibt.load_model(plain.module, processor=plain.processor, pooling="last")


def test_caption_longer_than_the_context_is_refused() -> None:
    with pytest.raises(BadInput, match=r"may have 256 tokens \(got 30\d\): shorten the caption"):
        nibt.explain(model("qwen2_vl"), IMAGES[0], "cat " * 300)


@pytest.mark.parametrize("kind", ["qwen2_vl", "colqwen2"])
def test_image_that_the_processor_rejects_is_an_error_in_words(kind: str) -> None:
    with pytest.raises(BadInput, match=r"cannot prepare the image 'noise 0' of 2000 x 3 pixels .*: crop it"):
        nibt.explain(model(kind), tiny.image(2000, 3), CAPTIONS[0])


def test_processor_without_a_chat_template_needs_prompts() -> None:
    plain = built("paligemma")
    with pytest.raises(CannotLoad, match="the processor has no chat template: pass image_prompt"):
        nibt.load_model(plain.module, processor=plain.processor, pooling="last")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
def test_adapters_load_on_the_class_on_which_they_were_trained(tmp_path: Path) -> None:
    plain = built("qwen2_vl")
    plain.module.save_pretrained(tmp_path / "base")
    plain.processor.save_pretrained(tmp_path / "base")
    lora = LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    adapted = get_peft_model(type(plain.module).from_pretrained(tmp_path / "base"), lora)
    adapted.save_pretrained(tmp_path / "adapters")
    loaded = nibt.load_model(tmp_path / "adapters", pooling="last")
    inputs = loaded.text.prepare(CAPTIONS[:1])
    with torch.no_grad():
        own = adapted.eval().model.model(inputs.values, inputs.extra["attention_mask"]).last_hidden_state[:, -1]
    torch.testing.assert_close(loaded.text.encode(inputs), own, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(own, model("qwen2_vl").text.encode(inputs), atol=1e-2)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
def test_adapters_embed_as_their_base_model(tmp_path: Path) -> None:
    """How a known checkpoint embeds is known by its name, which that of its adapters need not have."""
    plain, base = built("qwen3_vl"), tmp_path / "qwen3-vl-embedding-tiny"
    plain.module.save_pretrained(base)
    plain.processor.save_pretrained(base)
    lora = LoraConfig(target_modules=["q_proj"], r=2)  # which changes nothing yet
    get_peft_model(type(plain.module).from_pretrained(base), lora).save_pretrained(tmp_path / "adapters")
    expected = nibt.load_model(base)
    for options in ({}, {"pooling": "last"}):
        loaded = nibt.load_model(tmp_path / "adapters", **options)
        assert loaded.request.embedding == expected.request.embedding
        actual = loaded.text.encode(loaded.text.prepare(CAPTIONS[:1]))
        wanted = expected.text.encode(expected.text.prepare(CAPTIONS[:1]))
        torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
@pytest.mark.parametrize(("kind", "name"), [("qwen2_vl", "gme-Qwen2-VL-2B"), ("qwen3_vl", "Qwen3-VL-Embedding-2B")])
def test_adapters_embed_as_the_code_of_the_authors(kind: str, name: str, tmp_path: Path) -> None:
    """GME's code gives the language model embeddings without positions, and pads on the left; Qwen's is the class."""
    plain, base = built(kind), tmp_path / name
    plain.module.save_pretrained(base)
    plain.processor.save_pretrained(base)
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
    adapted = get_peft_model(type(plain.module).from_pretrained(base), lora)
    adapted.save_pretrained(tmp_path / "adapters")
    inner, network = adapted.eval().get_base_model().model, nibt.load_model(base)
    loaded = nibt.load_model(tmp_path / "adapters")
    texts = [loaded.request.embedding["text_prompt"].format(text=caption) for caption in CAPTIONS]
    processor = copy.deepcopy(plain.processor)
    processor.tokenizer.padding_side = "left"
    encoded = processor.tokenizer(texts, padding=True, return_tensors="pt")
    image = processor(
        text=[loaded.request.embedding["image_prompt"]], images=[IMAGES[0].pil_image], return_tensors="pt"
    )
    with torch.no_grad():
        if kind == "qwen2_vl":
            embeds = inner.get_input_embeddings()(image["input_ids"])
            seen = inner.visual(image["pixel_values"], grid_thw=image["image_grid_thw"]).pooler_output
            embeds[image["input_ids"] == inner.config.image_token_id] = seen
            of_image = inner.language_model(inputs_embeds=embeds).last_hidden_state[:, -1]
            embeds = inner.get_input_embeddings()(encoded["input_ids"])
            states = inner.language_model(inputs_embeds=embeds, attention_mask=encoded["attention_mask"])
        else:
            of_image = inner(**image).last_hidden_state[:, -1]
            states = inner(**encoded)
    of_texts = states.last_hidden_state[:, -1]
    for tower, items, expected in ((loaded.image, IMAGES[:1], of_image), (loaded.text, CAPTIONS, of_texts)):
        inputs = tower.prepare(items)
        torch.testing.assert_close(tower.encode(inputs), expected, atol=1e-5, rtol=1e-4)
        plainly = network.tower(tower.modality)
        assert not torch.allclose(plainly.encode(plainly.prepare(items)), expected, atol=1e-2), "the adapters matter"
    if kind == "qwen2_vl":
        with torch.no_grad():
            spatial = inner(**image).last_hidden_state[:, -1]
        assert not torch.allclose(spatial, of_image, atol=1e-4), "the positions matter"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
@pytest.mark.filterwarnings("ignore:Found missing adapter keys:UserWarning")  # PEFT's own
def test_adapters_without_a_place_in_the_base_model_are_refused(tmp_path: Path) -> None:
    plain = built("qwen2_vl")
    plain.module.save_pretrained(tmp_path / "base")
    plain.processor.save_pretrained(tmp_path / "base")
    other = get_peft_model(built("qwen3_vl").module.model.language_model, LoraConfig(target_modules=["q_proj"], r=2))
    other.save_pretrained(tmp_path / "adapters")
    config = tmp_path / "adapters" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": str(tmp_path / "base")}))
    with pytest.raises(CannotLoad, match=r"weights of the adapters in .* have no place in the base model"):
        nibt.load_model(tmp_path / "adapters", pooling="last")


def test_large_page_keeps_its_details() -> None:
    processor = copy.deepcopy(built("colqwen2").processor)
    processor.image_processor.size = {"shortest_edge": 256, "longest_edge": 1000**2}
    loaded = nibt.load_model(built("colqwen2").module, processor=processor)
    answer = nibt.explain(loaded, tiny.image(320, 640), "two cars", "similarity_map")
    assert isinstance(answer, nibt.Explanation)
    assert answer.image.grid.shape == (40, 20)
    assert answer.heatmap().shape == (640, 320)


def test_vectors_beyond_tokens_have_no_table() -> None:
    loaded = tiny.model("blip 2")
    assert nibt.explain(loaded, IMAGES[0], CAPTIONS[0]).similarity <= 1  # pyright: ignore
    with pytest.raises(Unsupported, match="compares sets of vectors that are no tokens of the caption"):
        nibt.regions(loaded, IMAGES[0], CAPTIONS[0])
