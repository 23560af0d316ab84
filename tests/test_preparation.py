"""What geometry says a model sees, it sees; and the words of a caption are those that people read."""

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTokenizer, SiglipImageProcessor

import tiny
from nibt.data.images import ImageInput
from nibt.errors import BadInput, Unsupported
from nibt.preprocessing import hugging_face
from nibt.preprocessing import open_clip as own
from nibt.preprocessing.captions import Tokens, words_by_offsets
from nibt.preprocessing.images import Preparation
from nibt.preprocessing.resize import Resize

EDGE = 40
SHAPES = [(400, 300), (300, 400), (401, 299), (320, 320), (800, 200), (200, 800), (30, 20), (20, 30)]
RIBBONS = [(2000, 10), (10, 2000), (1, 1), (1, 500), (20000, 3), (3, 20000)]


def ramps(width: int, height: int) -> ImageInput:
    """Red grows from left to right, green from top to bottom: a pixel's colour says where it was."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    pixels[..., 2] = 255
    return ImageInput(Image.fromarray(pixels), "ramps")


def crop_of_hugging_face(resize: str | None = None) -> Preparation:
    processor = CLIPImageProcessor(
        size={"shortest_edge": EDGE}, crop_size={"height": EDGE, "width": EDGE}, do_normalize=False
    )
    return hugging_face.image_preparation(processor, resize, None, EDGE, 8)


def squash_of_hugging_face() -> Preparation:
    processor = SiglipImageProcessor(size={"height": EDGE, "width": EDGE}, do_normalize=False)
    return hugging_face.image_preparation(processor, None, None, EDGE, 8)


def of_open_clip(way: str, size: Any = EDGE, resize: str | None = None) -> Preparation:
    config = PreprocessCfg(size=size, mean=(0.0,) * 3, std=(1.0,) * 3, resize_mode=way)
    return own.image_preparation(config, image_transform_v2(config, is_train=False), resize, None, 8)


WAYS = {
    "crop of Hugging Face": crop_of_hugging_face,
    "squash of Hugging Face": squash_of_hugging_face,
    "whole of Hugging Face": lambda: crop_of_hugging_face("whole"),
    "crop of OpenCLIP": lambda: of_open_clip("shortest"),
    "oblong crop of OpenCLIP": lambda: of_open_clip("shortest", (32, 56)),
    "squash of OpenCLIP": lambda: of_open_clip("squash"),
    "padded of OpenCLIP": lambda: of_open_clip("longest"),
    "whole of OpenCLIP": lambda: of_open_clip("shortest", resize="whole"),
}
every_way = pytest.mark.parametrize("way", WAYS)


def seen(pixels: Tensor, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what was seen, read from the colours of a row and a column in the middle.

    A line is fitted to each ramp away from its ends, so that neither padding nor clamping counts.
    """
    edges = []
    for channel, extent in ((0, width), (1, height)):
        ramp = pixels[channel].mean(1 - channel) if channel else _row(pixels)
        ramp = _column(pixels) if channel else ramp
        places = torch.arange(len(ramp)) + 0.5
        # colour c of a ramp of n pixels stands at the middle of pixel c (n - 1)
        origin = ramp * (extent - 1) + 0.5
        good = (ramp > 0.1) & (ramp < 0.9)
        slope, offset = np.polyfit(places[good].numpy(), origin[good].numpy(), 1)
        edges.append((offset, offset + slope * len(ramp)))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _row(pixels: Tensor) -> Tensor:
    return pixels[0, pixels.shape[1] // 2]


def _column(pixels: Tensor) -> Tensor:
    return pixels[1, :, pixels.shape[2] // 2]


@every_way
@pytest.mark.parametrize("shape", SHAPES)
def test_the_region_is_what_was_seen(way: str, shape: tuple[int, int]) -> None:
    preparation, image = WAYS[way](), ramps(*shape)
    pixels = preparation.pixels(image)
    assert pixels.shape[1:] == preparation.resize.size(shape)[::-1]
    region = preparation.region(image)
    left, top, right, bottom = seen(pixels, *shape)
    cell = max(region.width / pixels.shape[2], region.height / pixels.shape[1])
    near = pytest.approx
    assert (left, top) == near((region.left, region.top), abs=1.2 * cell + 0.01 * max(shape))
    assert (right, bottom) == near(
        (region.left + region.width, region.top + region.height), abs=1.2 * cell + 0.01 * max(shape)
    )


@every_way
@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (800, 200)])
def test_a_note_tells_of_what_is_cut_off(way: str, shape: tuple[int, int]) -> None:
    preparation, image = WAYS[way](), ramps(*shape)
    region = preparation.region(image)
    cut = region.width < 0.99 * shape[0] or region.height < 0.99 * shape[1]
    assert any("cropped" in note for note in preparation.notes(image)) == cut
    assert cut == ("crop" in way)


@every_way
@pytest.mark.parametrize("shape", RIBBONS)
def test_a_ribbon_is_read_without_a_giant_between(
    way: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = watched_resize(monkeypatch)
    preparation, image = WAYS[way](), ramps(*shape)
    pixels = preparation.pixels(image)
    assert pixels.shape[1:] == preparation.resize.size(shape)[::-1]
    assert pixels.isfinite().all()
    region = preparation.region(image)
    assert region.width > 0
    assert region.height > 0
    assert max(largest, default=0) <= 100 * 56 * 56


def watched_resize(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The areas of all images that anything resizes to."""
    areas: list[int] = []
    by_pillow, by_torch = Image.Image.resize, torch.nn.functional.interpolate

    def resize(image: Image.Image, size: Any, *args: Any, **kwargs: Any) -> Image.Image:
        areas.append(size[0] * size[1])
        return by_pillow(image, size, *args, **kwargs)

    def interpolate(tensor: Tensor, size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        answer = by_torch(tensor, size, *args, **kwargs)
        areas.append(answer.shape[-1] * answer.shape[-2])
        return answer

    monkeypatch.setattr(Image.Image, "resize", resize)
    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)
    return areas


@pytest.mark.parametrize("way", ["crop of Hugging Face", "crop of OpenCLIP"])
@pytest.mark.parametrize("shape", [(410, 40), (40, 410), (999, 100), (411, 41)])
def test_the_middle_of_a_ribbon_is_the_middle_of_the_whole(way: str, shape: tuple[int, int]) -> None:
    """Trimming before the resize must change nothing that is seen."""
    preparation, image = WAYS[way](), tiny.image(*shape)
    assert preparation.resize.trimmed(shape) is not None
    difference = (preparation.pixels(image) - preparation.own(image.pil_image)).abs()
    assert difference.mean() < 0.02
    assert difference[:, 4:-4, 4:-4].median() < 0.01


def test_whole_keeps_the_aspect_and_the_area() -> None:
    resize = Resize("whole", 224, 224, multiple=16)
    for shape in [(400, 300), (300, 400), (1000, 250), (50, 50)]:
        width, height = resize.size(shape)
        assert width % 16 == height % 16 == 0
        assert width * height == pytest.approx(224 * 224, rel=0.15)
        assert width / height == pytest.approx(shape[0] / shape[1], rel=0.15)


def test_another_size_by_the_processor_itself() -> None:
    processor = CLIPImageProcessor(do_normalize=False)
    preparation = hugging_face.image_preparation(processor, None, 48, 224, 16)
    image = ramps(400, 300)
    assert preparation.pixels(image).shape == (3, 48, 48)
    region = preparation.region(image)
    assert (region.left, region.top, region.width, region.height) == (50, 0, 300, 300)


def test_a_processor_that_does_neither_is_refused() -> None:
    processor = CLIPImageProcessor(size={"shortest_edge": 40}, do_center_crop=False)
    with pytest.raises(Unsupported, match="neither a crop nor a fixed size"):
        hugging_face.image_preparation(processor, None, None, 40, 8)


# ---------------------------------------------------------------------------------------------------------- words


def by_offsets(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.clip_tokenizer(False), caption, tiny.CONTEXT, full=False)


def by_sentence_pieces(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.sentence_tokenizer(), caption, tiny.CONTEXT, full=True)


def by_word_pieces(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.wordpiece_tokenizer(), caption, tiny.CONTEXT, full=True)


def by_byte_pairs(caption: str) -> Tokens:
    return own.tokens(open_clip.SimpleTokenizer(), caption, 77)


TOKENISERS = {
    "offsets": by_offsets,
    "sentence pieces": by_sentence_pieces,
    "word pieces": by_word_pieces,
    "byte pairs": by_byte_pairs,
}
every_tokeniser = pytest.mark.parametrize("kind", TOKENISERS)


def words(tokens: Tokens) -> list[str]:
    return [word.text for word in tokens.words]


@every_tokeniser
@pytest.mark.parametrize(
    "caption",
    [
        "two cats",
        "a photo of a cat",
        "  two   cats ",
        "Two CATS",
        "two\tcats\n",
        "a cat!",
        "cat, dog.",
        "日本の猫",
        "a 猫 cat",
        "a cat 🐱",
        "👩‍👩‍👧 cat",
        "cafe\u0301 cat",
        "naïve café",
        "a\x00cat",
        "a\u200bcat",
        "it's a dog's mat",
        "state-of-the-art cat",
        "cat " * 40,
        "zzzzzz qqqq",
        "a<b>c</b>",
        "<|endoftext|> cat",
        "№ ½ ﬁ",
    ],
)
def test_every_row_of_a_word_is_in_one_word(kind: str, caption: str) -> None:
    tokens = TOKENISERS[kind](caption)
    assert len(tokens.ids) == len(tokens.texts) == len(tokens.explained)
    spelt = [row for word in tokens.words for row in word.tokens]
    assert sorted(spelt) == [row for row, truth in enumerate(tokens.explained) if truth]
    assert all(word.text.strip() for word in tokens.words)
    firsts = [word.tokens[0] for word in tokens.words]
    assert firsts == sorted(firsts)
    assert all(word.tokens == tuple(range(word.tokens[0], word.tokens[-1] + 1)) for word in tokens.words)


@every_tokeniser
def test_words_are_those_of_the_caption(kind: str) -> None:
    assert words(TOKENISERS[kind]("two small birds")) == ["two", "small", "birds"]


@pytest.mark.parametrize(
    ("kind", "caption", "wanted"),
    [
        ("offsets", "Two cats, it's", ["Two", "cats", ",", "it's"]),
        ("sentence pieces", "zoo cat", ["zoo", "cat"]),
        ("word pieces", "zebra cat!", ["zebra", "cat", "!"]),
        ("byte pairs", "an axolotl's umbrella", ["an", "axolotl's", "umbrella"]),
        ("byte pairs", "a cat 🐱!", ["a", "cat", "🐱", "!"]),
        ("byte pairs", "日本の猫", ["日", "本", "の", "猫"]),
        ("byte pairs", "Café", ["café"]),
    ],
)
def test_words_by_hand(kind: str, caption: str, wanted: list[str]) -> None:
    assert words(TOKENISERS[kind](caption)) == wanted


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("two cats!", ["two", "cats", "!"]),
        ("日本の猫", ["日", "本", "の", "猫"]),
        ("don't", ["don't"]),
        ("x-ray", ["x-ray"]),
        ("cafe\u0301", ["cafe\u0301"]),
        ("हिन्दी", ["हिन्दी"]),
        ("cat🐱dog", ["cat", "🐱", "dog"]),
        ("👩‍👩‍👧👍🏽", ["👩‍👩‍👧", "👍🏽"]),
        ("☺️🇫🇷🇮🇹", ["☺️", "🇫🇷", "🇮🇹"]),
        ("1.5 m", ["1", ".", "5", "m"]),
    ],
)
def test_words_of_single_signs(caption: str, wanted: list[str]) -> None:
    """A token for each sign: the words are the pattern's."""
    offsets = [(i, i + 1) for i, sign in enumerate(caption) if not sign.isspace()]
    found = words_by_offsets(caption, [caption[a:b] for a, b in offsets], [True] * len(offsets), offsets)
    assert [word.text for word in found] == wanted


CLIP_SAYS = [
    "a photo of a cat",
    "an axolotl's umbrella",
    "1.5 litres!",
    "日本の猫",
    "a cat 🐱!",
    "Naïve café",
    "x-ray",
    "état 👩‍👩‍👧",
    "don't",
    "...",
]


@pytest.mark.parametrize("caption", CLIP_SAYS)
def test_both_tokenisers_of_clip_find_the_same_words(caption: str) -> None:
    """Hugging Face's and OpenCLIP's, which share a vocabulary."""
    theirs = open_clip.SimpleTokenizer()
    vocabulary = dict(theirs.encoder)
    vocabulary["<|startoftext|>"] = vocabulary.pop("<start_of_text>")
    vocabulary["<|endoftext|>"] = vocabulary.pop("<end_of_text>")
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=list(theirs.bpe_ranks), model_max_length=77)
    one = hugging_face.tokens(tokenizer, caption, 77, full=False)
    other = by_byte_pairs(caption)
    assert one.ids == other.ids[: len(one.ids)]
    assert [(word.text.lower(), word.tokens) for word in one.words] == [
        (word.text, word.tokens) for word in other.words
    ]


def test_a_token_that_begins_with_its_space_belongs_to_the_word_after() -> None:
    found = words_by_offsets("two cats", ["two", "Ġcats"], [True, True], [(0, 3), (3, 8)])
    assert [(word.text, word.tokens) for word in found] == [("two", (0,)), ("cats", (1,))]


@every_tokeniser
def test_a_caption_too_long_is_cut_and_told(kind: str) -> None:
    context = 77 if kind == "byte pairs" else tiny.CONTEXT
    tokens = TOKENISERS[kind](" ".join(["cat"] * 100))
    assert len(tokens.ids) == context
    (note,) = tokens.notes
    assert f"the model reads {context}" in note
    special = {"offsets": 2, "sentence pieces": 1, "word pieces": 2, "byte pairs": 2}[kind]
    assert f"has {100 + special} tokens" in note
    assert len(tokens.words) == context - special
    assert TOKENISERS[kind]("a cat").notes == ()


@every_tokeniser
def test_tokenising_is_what_the_model_would_do_itself(kind: str) -> None:
    caption = "a photo of two zebras"
    ids = TOKENISERS[kind](caption).ids
    if kind == "byte pairs":
        assert list(ids) == open_clip.SimpleTokenizer()([caption])[0].tolist()
        return
    made = {
        "offsets": tiny.clip_tokenizer(False),
        "sentence pieces": tiny.sentence_tokenizer(),
        "word pieces": tiny.wordpiece_tokenizer(),
    }[kind]
    padding = False if kind == "offsets" else "max_length"
    assert list(ids) == made(caption, truncation=True, max_length=tiny.CONTEXT, padding=padding)["input_ids"]


@pytest.mark.parametrize("kind", ["clip", "own vit", "bert"])
def test_a_caption_without_a_word_is_refused(kind: str) -> None:
    tower = tiny.model(kind).text
    caption = "\u200d" if kind == "bert" else "   "  # read_caption has refused the blank ones; tokenisers drop more
    with pytest.raises(BadInput, match="finds no word in the caption"):
        tower.prepare(["a cat", caption])


def test_padding_of_a_batch() -> None:
    inputs = tiny.model("clip").text.prepare(["cat", "a photo of a cat"])
    assert inputs.extra["attention_mask"].sum(1).tolist() == [3, 7]
    assert inputs.values.shape == (2, 7)
    assert inputs.words is not None
    assert inputs.words.explained.sum(1).tolist() == [1, 5]
    alone = inputs.item(0)
    assert alone.words is not None
    assert torch.equal(alone.words.explained[0], inputs.words.explained[0])
    assert len(alone) == 1


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_the_wrapper_of_open_clip_cleans_first(clean: str, tmp_path: Any) -> None:
    tiny.wordpiece_tokenizer().save_pretrained(tmp_path)
    tokenizer = tiny.HFTokenizer(str(tmp_path), tiny.CONTEXT, clean=clean)
    tokens = own.tokens(tokenizer, "Two  Cats!", tiny.CONTEXT)
    assert list(tokens.ids) == tokenizer(["Two  Cats!"])[0].tolist()
    wanted = {"lower": ["two", "cats", "!"], "whitespace": ["Two", "Cats", "!"], "canonicalize": ["two", "cats"]}
    assert words(tokens) == wanted[clean]


def test_stripped_separators_are_followed(tmp_path: Any) -> None:
    tiny.wordpiece_tokenizer().save_pretrained(tmp_path)
    tokenizer = tiny.HFTokenizer(str(tmp_path), tiny.CONTEXT, strip_sep_token=True)
    tokens = own.tokens(tokenizer, "two cats", tiny.CONTEXT)
    assert list(tokens.ids) == tokenizer(["two cats"])[0].tolist()
    assert words(tokens) == ["two", "cats"]


def test_a_wrapper_that_cleans_in_secret_is_followed() -> None:
    """OpenCLIP's SigLIP tokeniser says nothing of its cleaning: its own ids are the truth."""

    class Secret:
        tokenizer = tiny.wordpiece_tokenizer()

        def __call__(self, texts: list[str], context_length: int) -> Tensor:
            options = {"padding": "max_length", "truncation": True, "max_length": context_length}
            return torch.tensor([self.tokenizer(text.replace("!", ""), **options)["input_ids"] for text in texts])

    tokens = own.tokens(Secret(), "two! cats", tiny.CONTEXT)
    assert words(tokens) == ["two", "cats"]
    assert sum(tokens.explained) == 2
