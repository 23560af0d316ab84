"""Generators: the cut, the forced answer, the words and the errors, on small random models of each class."""

import copy
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from accelerate.hooks import ModelHook, add_hook_to_module
from peft import LoraConfig, get_peft_model
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import nibt
from benchmarks.models.tiny_writers import IMAGE_READERS, PAGE_READERS
from nibt.core.side import Side
from nibt.data.images import ImageInput, Region
from nibt.data.units import Grid
from nibt.errors import BadInput, BadOption, CannotLoad, Unsupported
from nibt.generators.answers import AnswerScore, AnswerTokens, AnswerTower, ForcedWord, Prompted
from nibt.generators.explain import explain_answer
from nibt.generators.loading import load_generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.methods.nib import NIB
from nibt.models._inputs import Inputs
from tests import tiny
from tests.helpers import assert_close
from tests.models.saved import save_open_clip
from tests.shared_models import module_state
from tests.suites import few
from tests.tiny_vision_language import ENCODER_DECODERS, WRITERS, built, generator

IMAGE, PROMPT, ANSWER = tiny.image(64, 48), "Describe the image .", "a red cat on a mat"
PROMPTED, SILENT = Prompted(IMAGE, PROMPT), ("vit_gpt_2", "vit_trocr")  # which read no prompt
FAST = ("llava", "qwen2_vl")
decoders = pytest.mark.parametrize("kind", few(WRITERS, FAST))
CLASSES = (*WRITERS, *ENCODER_DECODERS, *IMAGE_READERS, *PAGE_READERS, "coca")
every_class = pytest.mark.parametrize("kind", few(CLASSES, (*FAST, "blip_caption", "coca")))


def answer_of(kind: str) -> tuple[AnswerTower, AnswerTokens]:
    tower = generator(kind).answers
    return tower, tower.read(PROMPTED, ANSWER)


def explained(kind: str, **options: object) -> AnswerExplanation:
    if "method" not in options:
        options = {"layer": 0, "steps": 4, **options}
    options = {"answer": ANSWER, "other_images": [], "prompt": "" if kind in SILENT else PROMPT, **options}
    return explain_answer(generator(kind), IMAGE, **options)  # pyright: ignore


def _compiled(module: nn.Module) -> None:
    module.compile(backend="eager")


WRAPPED: dict[str, Callable[[nn.Module], object]] = {
    "accelerate": lambda module: add_hook_to_module(module, ModelHook()),
    "torch.compile": _compiled,
}


@pytest.mark.parametrize("kind", few(["aya_vision", "gemma3", "blip_caption", "blip_2_opt", "git"], ["aya_vision"]))
@pytest.mark.parametrize("wrapper", WRAPPED)
def test_a_forward_bound_to_the_model_changes_no_map(wrapper: str, kind: str) -> None:
    """The logits are those of a copy of the model around given states, which must not call the model itself."""
    plain = built(kind)
    WRAPPED[wrapper](plain.module)

    wrapped = load_generator(plain.module, processor=plain.processor)
    maps = [
        explain_answer(model, IMAGE, answer=ANSWER, prompt=PROMPT, layer=0, steps=4, other_images=[]).table
        for model in (wrapped, generator(kind))
    ]

    assert_close(*maps)


@every_class
def test_cut_gives_the_own_probabilities_at_every_layer(kind: str) -> None:
    tower, answer = answer_of(kind)
    inputs = tower.prepare([ForcedWord(PROMPTED, answer, 1), ForcedWord(PROMPTED, answer, 4)])
    trace, expected = tower.trace(inputs), tower.own_logits(inputs).log_softmax(-1)
    for layer in range(tower.depth + 1):
        cut = trace.cut(layer)
        with torch.no_grad():
            replayed = tower.logits(cut.rest(torch.stack([cut.hidden, cut.hidden]))).log_softmax(-1)
        torch.testing.assert_close(replayed, expected.expand_as(replayed), atol=1e-4, rtol=0)


def own_logits(kind: str, ids: list[int], hidden: tuple[slice, slice] | None = None) -> Tensor:
    """Return the logits of the model itself after its processor's prompt and these tokens.

    ``hidden`` are the rows and columns of pixels of the mean color.
    """
    tower = generator(kind).answers
    if kind in ENCODER_DECODERS:
        return tower.own_logits(tower.prepare([ForcedWord(PROMPTED, tower.spelled(ids))]))[0]
    plain = built(kind)
    if kind == "coca":
        caption = [49406, *plain.tokenizer.encode(PROMPT), *ids]  # after the start of a text
        pixels = tower.prepare([ForcedWord(PROMPTED, tower.spelled(ids))]).values
        with torch.no_grad():
            logits = plain.module(pixels, torch.tensor([caption]), output_labels=False)["logits"]
        return logits[0, len(caption) - len(ids) - 1 :]
    if kind in PAGE_READERS:
        values = dict(plain.processor(images=[IMAGE.pil_image], return_tensors="pt"))
        if hidden:
            values["pixel_values"][..., hidden[0], hidden[1]] = 0
        prompt = plain.processor.tokenizer(PROMPT, add_special_tokens=False).input_ids
        start = 0 if kind == "pix2struct" else 2
        with torch.no_grad():
            logits = plain.module(**values, decoder_input_ids=torch.tensor([[start, *prompt, *ids]])).logits
        return logits[0, len(prompt) :]
    if kind == "git":
        prompt = plain.processor.tokenizer(PROMPT).input_ids[:-1]
        pixels = plain.processor.image_processor(IMAGE.pil_image, return_tensors="pt").pixel_values
        with torch.no_grad():
            return plain.module(torch.tensor([prompt + ids]), pixel_values=pixels).logits[0, 17 + len(prompt) - 1 :]
    chat = tower.chat(PROMPT)  # pyright: ignore
    images = [[IMAGE.pil_image]] if kind in ("idefics3", "smolvlm") else [IMAGE.pil_image]
    values = dict(plain.processor(text=[chat], images=images, return_tensors="pt"))
    for name in ("num_crops", "labels", "num_soft_tokens_per_image"):
        values.pop(name, None)
    if hidden:
        values["pixel_values"][..., hidden[0], hidden[1]] = 0
    answer = torch.tensor([ids], dtype=torch.long)
    prompt = values["input_ids"].shape[1]
    values["input_ids"] = torch.cat([values["input_ids"], answer], 1)
    values["attention_mask"] = torch.ones_like(values["input_ids"])
    for name in ("token_type_ids", "mm_token_type_ids"):
        if name in values:  # the tokens that PaliGemma writes have the type 1, since it reads its prompt at once
            tail = torch.full_like(answer, int(kind == "paligemma"))
            values[name] = torch.cat([values[name], tail], 1)
    if "image_embeds_position_mask" in values:
        mask = values["image_embeds_position_mask"]
        values["image_embeds_position_mask"] = torch.cat([mask, torch.zeros_like(answer)], 1)
    if "cross_attention_mask" in values:
        mask = values["cross_attention_mask"]
        values["cross_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, len(ids), -1, -1)], 1)
    with torch.no_grad():
        return plain.module(**values).logits[0, prompt - 1 :]


@every_class
def test_forced_words_have_the_probabilities_of_the_model_itself(kind: str) -> None:
    """Also those of the first words alone: an answer does not change what comes before."""
    tower, answer = answer_of(kind)
    for count in (1, 3, 6):
        first = answer.first(count)
        expected = own_logits(kind, list(first.ids))[: len(first.ids)].log_softmax(-1)
        inputs = tower.prepare([ForcedWord(PROMPTED, answer)])
        actual = tower.logits(tower.encode(inputs))[0, : len(first.ids)].log_softmax(-1)
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


@every_class
def test_answer_is_the_most_probable_token_at_each_place(kind: str) -> None:
    tower = generator(kind).answers
    before = module_state(generator(kind).module)
    written = tower.write(PROMPTED, 3)
    assert 1 <= len(written.words) <= 3
    inputs = tower.prepare([ForcedWord(PROMPTED, written)])
    assert tower.own_logits(inputs)[0].argmax(-1).tolist() == list(written.ids)
    assert module_state(generator(kind).module) == before


@every_class
def test_blank_image_gives_nothing(kind: str) -> None:
    tower, answer = answer_of(kind)
    tower = tower.narrowing(["image"])
    inputs = tower.blank_inputs(tower.prepare([ForcedWord(PROMPTED, answer, word) for word in (0, 3)]))
    score = AnswerScore(tower, inputs.extra["targets"])
    attribution = NIB(layer=(0,), steps=2)(Side(generator(kind), tower.trace(inputs), score))
    assert attribution.scores.abs().max() < 1e-6


@pytest.mark.slow
@every_class
def test_words_do_not_depend_on_the_batch(kind: str) -> None:
    alone, together = explained(kind, batch_size=1), explained(kind, batch_size=3)
    for one, other in zip(alone.words, together.words, strict=True):
        parts = [torch.cat([word.grid.flatten(), word.prompt, word.earlier]) for word in (one, other)]
        assert_close(*parts, least=1e-5)  # a share of the largest part, since the parts of steep models cancel
        assert abs(one.special - other.special) < 1e-5


@pytest.mark.parametrize("kind", few(CLASSES, ("blip_caption",)))
def test_methods_give_finite_scores_or_say_why_not(kind: str) -> None:
    quick = {
        "nib": "steps=2 views=1",
        "integrated_gradients": "steps=2",
        "mfaba": "steps=2",
        "m2ib": "steps=2 samples=2",
    }
    quick |= {"rise": "masks=8", **dict.fromkeys(("shapley", "banzhaf", "fixlip"), "budget=12")}
    refused = set()
    for method in nibt.available("methods"):
        try:
            prompt = "" if kind in SILENT else PROMPT
            result = explain_answer(
                generator(kind), IMAGE, prompt, "a cat", f"{method} {quick.get(method, '')}", other_images=[]
            )
        except Unsupported:
            refused.add(method)
            continue
        assert all(bool(word.grid.isfinite().all()) for word in result.words), method
    assert {"clip_surgery", "similarity_map"} <= refused
    assert refused.isdisjoint({"nib", "occlusion", "shapley", "banzhaf", "rise", "center", "random", "grad_cam"})


@pytest.mark.parametrize("kind", few(CLASSES, ("llava", "coca")))
def test_model_is_unchanged(kind: str) -> None:
    plain = built(kind)
    loaded = load_generator(plain.module, processor=plain.processor)
    before, weights = module_state(plain.module), copy.deepcopy(plain.module.state_dict())
    offsets = [getattr(part, "rope_deltas", None) for part in plain.module.modules()]
    result = explain_answer(
        loaded, IMAGE, "" if kind in SILENT else PROMPT, other_images=[], max_words=2, layer=0, steps=2
    )
    assert result.written
    assert module_state(plain.module) == before
    assert [getattr(part, "rope_deltas", None) for part in plain.module.modules()] == offsets
    for name, value in plain.module.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize("kind", few(CLASSES, ("llava", "blip_caption")))
def test_half_precision_is_that_of_the_weights_alone(kind: str) -> None:
    half, wide = built(kind), built(kind)
    half.module.bfloat16()
    wide.module.bfloat16().float()
    results = [
        explain_answer(
            load_generator(plain.module, processor=plain.processor),
            IMAGE,
            "" if kind in SILENT else PROMPT,
            "a red",
            other_images=[],
            layer=0,
            steps=2,
        )
        for plain in (half, wide)
    ]
    assert results[0].model["dtype"] == "bfloat16"
    for one, other in zip(*(result.words for result in results), strict=True):
        assert_close(one.grid, other.grid, 1e-3, 1e-4)
        assert one.log_probability == pytest.approx(other.log_probability, abs=1e-3)


ROUGH = ("paligemma", "qwen3_5", "qwen3_5_moe", "gemma4_per_layer", "gemma3n", "llava_gemma2", "molmo2")
"""Kinds whose random layers are rough."""


@decoders
def test_scores_are_those_of_patches_and_words_of_prompt_and_answer(kind: str) -> None:
    tower, answer = answer_of(kind)
    assert answer.text == ANSWER
    assert [word.text for word in answer.words] == ANSWER.split()
    inputs = tower.prepare([ForcedWord(PROMPTED, answer, 2)])
    assert inputs.words is not None
    (words,) = inputs.words.words
    assert [word.text for word in words] == [*PROMPT.split(), *ANSWER.split()[:2]]
    ids = inputs.extra["input_ids"][0].tolist()
    for word in words:
        assert tower.tokenizer.decode([ids[row - tower.offset] for row in word.tokens]).strip() == word.text
    assert [row for word in words for row in word.tokens] == inputs.words.explained[0].nonzero()[:, 0].tolist()
    options = {"steps": 200, "layer": 3} if kind in ROUGH else {"steps": 32, "layer": 2}
    options["layer"] = min(options["layer"], tower.depth - 1)
    result = explained(kind, views=1, **options)
    assert result.prompt_words == tuple(PROMPT.split())
    grid = tower.trace(inputs).cut(0).units.grid  # pyright: ignore
    for number, word in enumerate(result.words):
        assert word.grid.shape == (grid.rows, grid.columns)
        assert len(word.earlier) == number
        assert abs(word.gap - word.special) < 0.01  # other tokens have read the sources at this layer


CELLS = {
    "llava": (4, 4),
    "gemma3": (4, 4),
    "llava_next": (6, 8),
    "llava_onevision": (6, 8),
    "llava_onevision_1": (3, 4),
    "internvl": (4, 6),
    "mistral3": (3, 4),
    "pixtral": (6, 8),
    "aya_vision": (4, 6),
    "cohere2_vision": (4, 4),
    "perception_lm": (4, 6),
    "gemma4": (7, 9),
    "lfm2_vl": (4, 6),
    "lfm2_vl_whole": (2, 3),
    "gemma4_per_layer": (7, 9),
    "gemma3n": (4, 4),
    "qwen3_5_moe": (2, 2),
    "qwen2_5_omni": (2, 2),
    "qwen3_omni": (2, 2),
    "glm4v_moe": (1, 2),
    "glm46v": (1, 2),
    "glm_ocr": (1, 2),
    "paddleocr_vl": (2, 2),
    "deepseek_vl": (4, 4),
    "janus": (4, 4),
    "fast_vlm": (4, 4),
    "llava_gemma2": (4, 4),
    "lighton_ocr": (3, 4),
    "got_ocr2": (16, 16),
    "ovis2": (4, 4),
    "molmo2": (4, 4),
    "kosmos2": (4, 4),
    "kosmos2_5": (4, 5),
    "mllama": (6, 8),
    "idefics2": (6, 8),
    "idefics2_whole": (6, 8),
    "aria": (11, 14),
}


@pytest.mark.parametrize("kind", few(CELLS, ("llava",)))
def test_cells_are_in_rows_and_columns(kind: str) -> None:
    tower, answer = answer_of(kind)
    units = tower.trace(tower.prepare([ForcedWord(PROMPTED, answer, 0)])).cut(0).units
    grid = units.grid  # pyright: ignore
    assert (grid.rows, grid.columns) == CELLS[kind]
    assert len({*grid.tokens, *(grid.overview.tokens if grid.overview else ())}) == grid.count + (
        grid.overview.count if grid.overview else 0
    )


CONVOLUTIONAL = ("gemma3n", "fast_vlm")
"""Kinds whose image encoder mixes patches by convolutions, not by blocks that can be skipped."""
ELSEWHERE = ("florence_2", "got_ocr2", *CONVOLUTIONAL)
LOCAL = [kind for kind in (*WRITERS, *ENCODER_DECODERS, *IMAGE_READERS) if kind not in ELSEWHERE]


def inverted(image: ImageInput, region: Region, grid: Grid, cell: int) -> ImageInput:
    """Return an image with inverted colors in the rectangle of a cell."""
    row, column = divmod(cell, grid.columns)
    rows = (region.top + (row + end) * region.height / grid.rows for end in (0, 1))
    columns = (region.left + (column + end) * region.width / grid.columns for end in (0, 1))
    (top, bottom), (left, right) = ([max(0, round(edge)) for edge in edges] for edges in (rows, columns))
    pixels = np.array(image.pil_image)
    pixels[top:bottom, left:right] = 255 - pixels[top:bottom, left:right]
    return ImageInput(Image.fromarray(pixels), f"cell {cell}")


def shown(image: ImageInput, region: Region, grid: Grid) -> list[int]:
    """Return about 16 cells that are not mostly padding."""
    width, height = image.size
    cells = []
    for cell in range(grid.count):
        row, column = divmod(cell, grid.columns)
        rows = [region.top + (row + end) * region.height / grid.rows for end in (0, 1)]
        columns = [region.left + (column + end) * region.width / grid.columns for end in (0, 1)]
        down = (min(rows[1], height) - max(rows[0], 0)) * grid.rows / region.height
        across = (min(columns[1], width) - max(columns[0], 0)) * grid.columns / region.width
        if min(down, across) > 0.6:
            cells.append(cell)
    return cells[:: max(1, len(cells) // 16)]


def states_of(tower: AnswerTower, answer: AnswerTokens, image: ImageInput) -> tuple[Tensor, Grid, Region]:
    """Return the states at layer 0, the grid and its part of the image."""
    inputs = tower.prepare([ForcedWord(Prompted(image, PROMPT), answer, 0)])
    cut = tower.trace(inputs).cut(0)
    return cut.hidden[0], cut.units.grid, inputs.regions[0]  # pyright: ignore


def changes(tower: AnswerTower, answer: AnswerTokens, image: ImageInput, cells: Iterable[int]) -> Tensor:
    """Return how much the state of each cell changes if the image does where another cell is: (other cell, cell)."""
    before, grid, region = states_of(tower, answer, image)
    afters = [states_of(tower, answer, inverted(image, region, grid, cell))[0] for cell in cells]
    return torch.stack([(after - before)[list(grid.tokens)].norm(dim=-1) for after in afters])


@pytest.mark.parametrize("size", [(64, 48), (150, 46), (40, 100)])
@pytest.mark.parametrize("kind", few(LOCAL, ("llava",)))
def test_cells_are_where_the_pixels_are(kind: str, size: tuple[int, int]) -> None:
    """Changing the image where a cell is changes the state of its token most, before the decoder mixes tokens."""
    tower, answer = answer_of(kind)
    image = tiny.image(*size)
    _, grid, region = states_of(tower, answer, image)
    cells = shown(image, region, grid)
    hits = changes(tower, answer, image, cells).argmax(1) == torch.tensor(cells)
    assert hits.float().mean() >= 0.5


@pytest.mark.parametrize("kind", few(("gemma3n", "janus", "deepseek_vl", "kosmos2", "donut", "nougat"), ("gemma3n",)))
def test_occlusion_of_a_cell_is_what_the_model_itself_loses(kind: str) -> None:
    result = explained(kind, method="occlusion", narrow=["image"])
    _, answer = answer_of(kind)
    grid = result.words[0].grid
    side = {"gemma3n": 32}.get(kind, 8)
    first = answer.words[0].tokens

    def log_probability(hidden: tuple[slice, slice] | None) -> float:
        logs = own_logits(kind, list(answer.ids), hidden).log_softmax(-1)
        return float(sum(logs[token, answer.ids[token]] for token in first))

    whole = log_probability(None)
    for row, column in ((0, 0), (1, 2), (grid.shape[0] - 1, grid.shape[1] - 1)):
        hidden = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
        assert float(grid[row, column]) == pytest.approx(whole - log_probability(hidden), abs=1e-4)


@pytest.mark.parametrize("kind", few(("gemma3n", "gemma4_per_layer"), ("gemma3n",)))
def test_removed_words_lack_the_inputs_of_the_layers(kind: str) -> None:
    """Gemma reads the ids of words in each layer, beside their embeddings; those of an image are padding."""
    tower: Any
    tower, answer = answer_of(kind)
    tower = tower.narrowing(["prompt"])
    inputs = tower.prepare([ForcedWord(PROMPTED, answer, 2)])
    states, blank = tower.trace(inputs).cut(0).hidden[0], tower.blank(inputs, 0)[0]
    rows = inputs.words.explained[0]
    assert states.shape[1] > tower.width
    for columns in (slice(0, tower.width), slice(tower.width, None)):
        assert states[rows][:, columns].std(0).max() > 0.1
        assert blank[rows][:, columns].std(0).max() < 1e-5
    assert_close(blank[~rows], states[~rows], 1e-4)
    of_layers = states[list(tower.places(inputs)), tower.width :]
    assert of_layers.std(0).max() < 1e-6


@pytest.mark.parametrize(
    ("kind", "size"),
    few((("idefics2", (1, 1)), ("nougat", (300, 3))), ((("idefics2", (1, 1))),)),
)
def test_images_that_a_processor_cannot_prepare_are_one_error(kind: str, size: tuple[int, int]) -> None:
    image = ImageInput(Image.new("RGB", size, (9, 80, 200)), "thin")
    with pytest.raises(BadInput, match=f"processor cannot prepare the image 'thin' of {size[0]} x {size[1]} pixels"):
        explain_answer(generator(kind), image, PROMPT, ANSWER, other_images=[])


@pytest.mark.parametrize(
    ("kind", "name"),
    few((("kosmos2_5", "max_num_patches"), ("pix2struct", "seq_len")), (("kosmos2_5", "max_num_patches"),)),
)
def test_strips_with_more_patches_than_positions_are_refused(kind: str, name: str) -> None:
    """A processor puts all its 24 patches of a strip into one row, and the model counts rows and columns from 1."""
    plain = built(kind)
    setattr(plain.module.config.vision_config, name, 24)
    model = load_generator(plain.module, processor=plain.processor)
    strip = ImageInput(Image.new("RGB", (20_000, 1), (9, 80, 200)), "strip")
    with pytest.raises(BadInput, match=r"positions for 23 rows and columns of patches, and this has 1 x 24\): crop it"):
        explain_answer(model, strip, PROMPT, ANSWER, other_images=[])


def test_prompt_of_a_page_is_that_of_the_processor() -> None:
    """A processor of GOT-OCR 2 builds the prompt by itself; the words of another one take the place of its query."""
    tower: Any = generator("got_ocr2").answers
    own = tower.processor(images=[IMAGE.pil_image], return_tensors="pt")
    values = tower._prepared(Prompted(IMAGE, "OCR:"))
    assert values["input_ids"].tolist() == own["input_ids"].tolist()
    assert torch.equal(values["pixel_values"], own["pixel_values"])
    result = explained("got_ocr2", prompt="OCR:", method="occlusion", narrow=["prompt"])
    assert result.prompt_words == ("OCR", ":")
    assert not any("template" in str(note) for note in result.warnings)


def test_cells_of_overlapping_patches_are_near_their_pixels() -> None:
    """The convolutions of GOT-OCR 2 see 7 x 7 patches around the first of the 4 x 4 patches of a cell."""
    tower, answer = answer_of("got_ocr2")
    cells = [row * 16 + column for row in (2, 7, 12) for column in (3, 8, 13)]
    weights = changes(tower, answer, tiny.image(256, 256), cells) ** 2
    places = torch.stack([torch.arange(256) // 16, torch.arange(256) % 16]).float()
    centers = (weights / weights.sum(1, keepdim=True)) @ places.T
    offsets = centers - places.T[cells]
    assert offsets.abs().mean() < 0.6
    assert offsets.mean(0).min() > 0.1  # each patch also changes the cell after it


@pytest.mark.parametrize("size", [(64, 48), (40, 100)])
@pytest.mark.parametrize("kind", few(PAGE_READERS, ("donut",)))
def test_cells_are_where_the_page_is(kind: str, size: tuple[int, int]) -> None:
    """Also where the page is padded or, by Nougat, cropped to what is not white."""
    tower, answer = answer_of(kind)
    pixels = np.full((*size[::-1], 3), 255, dtype=np.uint8)
    inner = np.array(tiny.image(*size).pil_image)[8:-8, 8:-8]
    pixels[8:-8, 8:-8] = inner // 2
    image = ImageInput(Image.fromarray(pixels), "a page")
    _, grid, region = states_of(tower, answer, image)
    if kind == "nougat":
        assert region.width * region.height < 2.5 * size[0] * size[1]
    cells = shown(image, region, grid)
    if kind == "nougat":  # a painted margin is not cropped
        middle = Region(region.left - 8, region.top - 8, region.width, region.height)
        cells = shown(tiny.image(size[0] - 16, size[1] - 16), middle, grid)
    with tower.unmixed():
        hits = changes(tower, answer, image, cells).argmax(1) == torch.tensor(cells)
    assert hits.float().mean() >= 0.5


@pytest.mark.parametrize("kind", few(CONVOLUTIONAL, ("gemma3n",)))
def test_cells_of_convolutional_encoders_are_in_rows_and_columns(kind: str) -> None:
    """Without the blocks between patches, changing the image where a cell is changes the state of its token most."""
    plain = built(kind)
    with torch.no_grad():
        for name, weight in plain.module.named_parameters():
            if name.endswith(".gamma"):
                weight *= 0.01
    tower = load_generator(plain.module, processor=plain.processor).answers
    answer = tower.read(PROMPTED, ANSWER)
    for size in ((128, 128), (150, 100)):
        hits = changes(tower, answer, tiny.image(*size), range(16)).argmax(1) == torch.arange(16)
        assert hits.float().mean() >= 0.7


@pytest.mark.slow
def test_cells_of_florence_are_in_rows_and_columns() -> None:
    """Its encoder of overlapping patches mixes neighbors, so the centers of the changes are compared."""
    plain = built("florence_2")
    with torch.no_grad():
        for name, part in plain.module.model.vision_tower.named_modules():
            if name.endswith("attn.proj"):
                part.weight *= 0.05
    tower = load_generator(plain.module, processor=plain.processor).answers
    answer = tower.read(PROMPTED, ANSWER)
    table = changes(tower, answer, IMAGE, range(16))
    weights = (table / table.mean(0)) ** 2
    places = torch.stack([torch.arange(16) // 4, torch.arange(16) % 4]).float()
    centers = (weights / weights.sum(1, keepdim=True)) @ places.T
    similar = torch.corrcoef(torch.cat([places, centers.T]))[:2, 2:]
    assert similar.diag().min() > 0.7
    assert (similar - similar.diag().diag()).abs().max() < 0.3


@pytest.mark.parametrize("kind", few(LOCAL, ("llava",)))
def test_hidden_pixels_are_those_of_a_cell(kind: str) -> None:
    """Hiding pixels of the tower's input where a cell is changes the state of its token most, too."""
    tower, answer = answer_of(kind)
    inputs = tower.prepare([ForcedWord(Prompted(tiny.image(150, 46), PROMPT), answer, 0)])
    first = tower.trace(inputs).cut(0)
    grid = first.units.grid  # pyright: ignore
    hits, cells = 0, range(0, grid.count, max(1, grid.count // 16))
    for cell in cells:
        keep = torch.ones(1, grid.count)
        keep[0, cell] = 0
        pixels = F.interpolate(grid.unfold(keep)[:, None], tower.extent(inputs), mode="nearest")[:, 0]
        masked = tower.trace(tower.mask_pixels(inputs, pixels)).cut(0).hidden
        hits += int((masked - first.hidden)[0, list(grid.tokens)].norm(dim=-1).argmax()) == cell
    assert hits > 0.5 * len(cells)


@pytest.mark.parametrize("kind", few(ENCODER_DECODERS, ("blip_caption",)))
def test_words_before_a_word_pass_by_an_encoder(kind: str) -> None:
    sources = list(generator(kind).answers.sources)
    result = explained(kind, views=1, steps=32, layer=1)
    has_prompt = generator(kind).answers.prompts != "none"
    assert result.prompt_words == (tuple(PROMPT.split()) if has_prompt else ())
    assert [word.text for word in result.words] == ANSWER.split()
    assert result.target["options"]["narrow"] == sources
    for word in result.words:
        assert word.grid.shape == (4, 4)
        assert bool(word.prompt.any()) == ("prompt" in sources)
        assert not word.earlier.any()
        assert word.value == pytest.approx(word.log_probability, abs=1e-4)
        assert abs(word.gap - word.special) < 0.05
    for word in explained(kind, narrow=["image"]).words:
        assert word.at_blank == pytest.approx(word.with_blank_image, abs=1e-4)
    with pytest.raises(Unsupported, match=r"this model can narrow only the image( and the prompt)? \(got earlier\)"):
        explained(kind, narrow=["earlier"])


def test_map_covers_what_the_processor_crops() -> None:
    result = explained("llava")
    assert tuple(result.region) == (8.0, 0.0, 48.0, 48.0)
    assert "the model sees only the center of the image: the rest was cropped" in result.warnings


def test_processor_without_a_template_puts_the_image_before_the_prompt() -> None:
    plain = built("llava")
    processor = copy.copy(plain.processor)
    processor.chat_template = None
    loaded = load_generator(plain.module, processor=processor)
    assert loaded.answers.chat("a cat") == "<image>a cat"  # pyright: ignore


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": " "}, "the prompt must not be empty"),
        ({"answer": ""}, "the answer must not be empty"),
        ({"prompt": "<image> or <image>"}, "the prompt may have the model's image token '<image>' once for each image"),
        ({"answer": "a <image>"}, "the answer must not contain the model's image token '<image>'"),
        ({"answer": "cat " * 300}, r"may have 256 tokens \(got 3\d\d\): shorten the prompt or the answer"),
    ],
)
def test_wrong_input_is_one_error(options: dict, message: str) -> None:
    options = {"prompt": PROMPT, "answer": ANSWER, **options}
    with pytest.raises(BadInput, match=message):
        explain_answer(generator("llava"), IMAGE, **options)


def test_model_without_prompts_takes_none() -> None:
    with pytest.raises(BadInput, match=r"the prompt must be empty for this model, .* \(got 'Describe the image \.'\)"):
        explain_answer(generator("vit_trocr"), IMAGE, PROMPT, ANSWER)


@pytest.mark.parametrize("kind", ["blip_caption", "git"])
def test_captions_need_no_prompt(kind: str) -> None:
    result = explain_answer(generator(kind), IMAGE, "", ANSWER, other_images=[], layer=0, steps=2)
    assert result.prompt_words == ()


def test_processor_without_an_image_token_is_refused() -> None:
    plain = built("llava")
    processor = copy.copy(plain.processor)
    processor.chat_template = "{{ messages[0]['content'][1]['text'] }}"
    with pytest.raises(CannotLoad, match="the model's prompt has no image token: save the processor with its chat"):
        load_generator(plain.module, processor=processor)


@pytest.mark.usefixtures("unchecked")
def test_generator_compares_nothing(tmp_path: Path) -> None:
    plain, message = (
        built("llava"),
        "writes text about images, and does not compare them with captions: use nibt answer",
    )
    plain.module.save_pretrained(tmp_path)
    for model in (plain.module, generator("llava"), str(tmp_path)):
        with pytest.raises(CannotLoad, match=message):
            nibt.load_model(model)  # pyright: ignore


FOLDERS = [kind for kind in CLASSES if kind not in ("coca", "kosmos2_5", "aria", "pix2struct")]
"""Kinds whose processors keep all of their settings in a folder."""


@pytest.mark.parametrize("kind", few(FOLDERS, ("blip_caption",)))
def test_folder_gives_the_same_words(kind: str, tmp_path: Path) -> None:
    plain = built(kind)
    plain.module.save_pretrained(tmp_path)
    plain.processor.save_pretrained(tmp_path)
    loaded, (tower, answer) = load_generator(tmp_path), answer_of(kind)
    assert loaded.family == generator(kind).family
    inputs = loaded.answers.prepare([ForcedWord(PROMPTED, loaded.answers.read(PROMPTED, ANSWER))])
    expected = tower.encode(tower.prepare([ForcedWord(PROMPTED, answer)]))
    torch.testing.assert_close(loaded.answers.encode(inputs), expected, atol=1e-5, rtol=1e-5)
    if kind in (*ENCODER_DECODERS, "git"):
        with pytest.raises(CannotLoad, match="writes text about images, and does not compare them with captions"):
            nibt.load_model(tmp_path)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("kind", few(["llava", "vit_gpt_2", "instructblip", "qwen2_vl"], ["llava"]))
def test_folder_with_weights_only_takes_the_processor_of_another_model(kind: str, tmp_path: Path) -> None:
    plain = built(kind)
    plain.module.save_pretrained(tmp_path / "weights")
    plain.processor.save_pretrained(tmp_path / "processor")
    with pytest.raises(CannotLoad, match="that Transformers can load") as error:
        load_generator(tmp_path / "weights")
    call = f'load_generator({str(tmp_path / "weights")!r}, processor="org/name") or --load processor=org/name'
    assert kind == "vit_gpt_2" or call in str(error.value)

    loaded, (tower, answer) = load_generator(tmp_path / "weights", processor=tmp_path / "processor"), answer_of(kind)
    inputs = loaded.answers.prepare([ForcedWord(PROMPTED, loaded.answers.read(PROMPTED, ANSWER))])
    expected = tower.encode(tower.prepare([ForcedWord(PROMPTED, answer)]))
    torch.testing.assert_close(loaded.answers.encode(inputs), expected, atol=1e-5, rtol=1e-5)


def test_coca_is_loaded_from_the_folder_of_open_clip(tmp_path: Path) -> None:
    module, config = built("coca").module, tiny.coca_configuration()
    save_file(module.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": {}})
    )
    loaded, (tower, answer) = load_generator(tmp_path), answer_of("coca")
    items = [ForcedWord(PROMPTED, answer)]
    torch.testing.assert_close(
        loaded.answers.own_logits(loaded.answers.prepare(items)), tower.own_logits(tower.prepare(items))
    )
    assert loaded.record()["family"] == "open_clip"
    assert nibt.load_model(tmp_path).image.depth == tower.depth


def test_coca_reads_captions_as_open_clip_does() -> None:
    ours, tokenizer = generator("coca").answers.tokenizer, built("coca").tokenizer
    for text in ("a Red cat, on the mat!", "naïve café at 12:30", "don't  we?", "日本 🙂"):
        assert ours(text, add_special_tokens=False).input_ids == tokenizer.encode(text)


def test_other_models_of_open_clip_write_nothing(tmp_path: Path) -> None:
    save_open_clip(tmp_path / "clip")
    with pytest.raises(CannotLoad, match="writes no text about images"):
        load_generator(tmp_path / "clip")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
@pytest.mark.parametrize("kind", few(("llava", "qwen2_vl", "blip_caption"), ("llava",)))
def test_adapters_change_what_is_written(kind: str, tmp_path: Path) -> None:
    plain, target = built(kind), "query" if kind == "blip_caption" else "q_proj"
    plain.module.save_pretrained(tmp_path / "base")
    plain.processor.save_pretrained(tmp_path / "base")
    lora = LoraConfig(target_modules=[target], r=2, init_lora_weights=False)
    peft_model = get_peft_model(type(plain.module).from_pretrained(tmp_path / "base"), lora).eval()
    peft_model.save_pretrained(tmp_path / "adapters")
    before, answer = answer_of(kind)
    inputs = before.prepare([ForcedWord(PROMPTED, answer)])
    in_memory = load_generator(peft_model, processor=plain.processor).answers
    own = in_memory.own_logits(inputs)
    loaded = load_generator(tmp_path / "adapters")
    assert loaded.id == str(tmp_path / "adapters")
    for tower in (loaded.answers, in_memory):
        torch.testing.assert_close(tower.logits(tower.encode(inputs)), own, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(own, before.own_logits(inputs), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Llama4ForConditionalGeneration", "its own forward pass fails in Transformers 5.24"),
        ("Phi4MultimodalForCausalLM", "its image encoder is a part of its decoder"),
        ("DeepseekOcr2ForConditionalGeneration", "queries, which have no place on the page"),
        ("UdopForConditionalGeneration", "drops the patches of the page under them"),
    ],
)
def test_generators_that_are_not_supported_are_refused_with_the_reason(name: str, reason: str, tmp_path: Path) -> None:
    assert hasattr(transformers, name)
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [name]}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    kind = type(name, (nn.Linear,), {})
    for id, shown in ((tmp_path, name), (kind(1, 1), name), (type("Tuned", (kind,), {})(1, 1), "Tuned")):
        with pytest.raises(CannotLoad, match=f"of the class {shown}, whose answers nibt cannot explain: .*{reason}"):
            load_generator(id)


def test_pix2struct_that_reads_a_drawn_question_is_refused() -> None:
    plain = built("pix2struct")
    plain.processor.image_processor.is_vqa = True
    try:
        with pytest.raises(Unsupported, match="its processor draws the prompt on the image"):
            load_generator(plain.module, processor=plain.processor)
    finally:
        plain.processor.image_processor.is_vqa = False


@pytest.mark.parametrize("kind", few((*IMAGE_READERS, *PAGE_READERS), ("mllama",)))
def test_words_do_not_pass_through_the_states_of_an_image_encoder(kind: str) -> None:
    """The scores of the cells add up to what the image does, and words cannot be narrowed."""
    result = explained(kind, steps=200)
    assert result.target["options"]["narrow"] == ["image"]
    assert result.prompt_words == (() if kind in PAGE_READERS else tuple(PROMPT.split()))
    for word in result.words:
        assert not word.prompt.any()
        assert not word.earlier.any()
        assert word.value == pytest.approx(word.log_probability, abs=1e-4)
        assert word.at_blank == pytest.approx(word.with_blank_image, abs=1e-4)
        assert abs(word.gap - word.special) < 0.02
    with pytest.raises(Unsupported, match=r"this model can narrow only the image \(got earlier\)"):
        explained(kind, narrow=["earlier"])


@pytest.mark.usefixtures("unchecked")
def test_dual_encoder_writes_nothing() -> None:
    with pytest.raises(
        CannotLoad, match="writes no text about images, so it has no answer to explain: use a model that does"
    ):
        explain_answer(tiny.model("clip"), IMAGE, PROMPT, ANSWER)  # pyright: ignore
    with pytest.raises(BadOption, match="narrow must name at least one of image, prompt, earlier"):
        explained("llava", narrow=[])


@pytest.mark.parametrize("kind", few(("llava", "qwen2_vl", "paligemma"), ("llava",)))
def test_map_is_the_integral_of_the_gradients_of_the_model_itself(kind: str) -> None:
    """The model runs as a whole, and a hook replaces what enters its first layer by states on the way from blank."""
    tower, answer = answer_of(kind)
    tower = tower.narrowing(["image"])
    inputs = tower.prepare([ForcedWord(PROMPTED, answer, 2)])
    first, entering = tower.blocks[0], []

    def run(values: Inputs) -> Tensor:
        states = tower.logits(tower.run(values)).log_softmax(-1)
        return states[0, 0, inputs.extra["targets"][0, 0]]

    def record(_: nn.Module, args: tuple, kwargs: dict) -> None:
        entering.append(args[0] if args else kwargs["hidden_states"])

    handle = first.register_forward_pre_hook(record, with_kwargs=True)
    with torch.no_grad():
        run(inputs), run(tower.blank_inputs(inputs))
    handle.remove()
    states, blank = entering
    places, weights = np.polynomial.legendre.leggauss(12)
    total = torch.zeros_like(states)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        on_the_way = (blank + float(place) * (states - blank)).detach().requires_grad_()

        def replace_input(_: nn.Module, args: tuple, kwargs: dict, state: Tensor = on_the_way) -> tuple[tuple, dict]:
            return ((state, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": state})

        handle = first.register_forward_pre_hook(replace_input, with_kwargs=True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(run(inputs), on_the_way)
        handle.remove()
        total += float(weight) * gradient
    expected = ((states - blank) * total).sum(-1)[0]
    result = explained(kind, narrow=["image"], steps=12, quadrature="gauss", views=1, layer=0)
    grid = tower.units(inputs, states).grid  # pyright: ignore
    assert_close(result.words[2].grid.flatten(), expected[list(grid.tokens)].detach(), 1e-4)


@pytest.mark.parametrize("method", ["grad_cam", "m2ib"])
def test_default_layers_are_read_by_the_words(method: str) -> None:
    """After the last block of a decoder, the logits of a word are computed from its own row alone."""
    model = generator("llava")
    options: Any = {"narrow": ["image"], "other_images": []}
    explanation = nibt.explain_answer(model, tiny.image(64, 64), "a photo of a cat", "two red cars", method, **options)
    assert not torch.equal(explanation.words[0].grid, explanation.words[1].grid)
    depth = model.answers.depth
    with pytest.raises(BadOption, match=f"layer must be at most {depth - 1}"):
        nibt.explain_answer(
            model, tiny.image(64, 64), "a photo of a cat", "two red cars", method, layer=depth, **options
        )
