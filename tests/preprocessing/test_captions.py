"""Tests of ``nibt.preprocessing.captions``."""

from typing import Any

import open_clip
import pytest
import torch
from torch import Tensor
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from nibt.errors import BadInput
from nibt.models._embedded import EMBEDDED
from nibt.preprocessing import hugging_face
from nibt.preprocessing import open_clip as own
from nibt.preprocessing.captions import Tokens, words_by_offsets
from tests import tiny
from tests.suites import few


def by_offsets(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.clip_tokenizer(False), caption, tiny.CONTEXT, full=False)


def by_sentence_pieces(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.sentence_tokenizer(), caption, tiny.CONTEXT, full=True)


def by_word_pieces(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.wordpiece_tokenizer(), caption, tiny.CONTEXT, full=True)


def by_gemma(caption: str) -> Tokens:
    return hugging_face.tokens(tiny.gemma_tokenizer(), caption, tiny.CONTEXT * 4, full=True)


def by_byte_pairs(caption: str) -> Tokens:
    return own.tokens(open_clip.SimpleTokenizer(), caption, 77)


TOKENISERS = {
    "offsets": by_offsets,
    "sentence pieces": by_sentence_pieces,
    "word pieces": by_word_pieces,
    "byte pairs": by_byte_pairs,
    "gemma": by_gemma,
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
        "wow!!! C++ and C# ... http://x.org",
        "3.14 or 100,000",
        "สวัสดีแมว ໝາ မြန်မာ ខ្មែរ",
        "  two   cats  \n ",
        "a </s> <eos> [SEP] <end_of_text> cat",
    ],
)
def test_words_cover_all_explained_tokens(kind: str, caption: str) -> None:
    tokens = TOKENISERS[kind](caption)
    assert len(tokens.ids) == len(tokens.texts) == len(tokens.explained)
    spelt = [row for word in tokens.words for row in word.tokens]
    assert sorted(spelt) == [row for row, truth in enumerate(tokens.explained) if truth]
    assert all(word.text.strip() for word in tokens.words)
    assert "leaves out" not in str(tokens.notes), "these tokenizers read all characters, some as unknown"
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
def test_words_of_known_captions(kind: str, caption: str, wanted: list[str]) -> None:
    assert words(TOKENISERS[kind](caption)) == wanted


@pytest.mark.parametrize(
    ("caption", "dropped"),
    [("a cat 🐱", ["🐱"]), ("5 € for a 🐱 cat!", ["€", "🐱"]), ("a cat, a dog.", []), ("cat " * 40 + "🐱", [])],
)
def test_characters_that_a_tokenizer_leaves_out_are_noted(caption: str, dropped: list[str]) -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(EMBEDDED / "lite" / "tokenizer.json"), pad_token="[PAD]")
    tokens = hugging_face.tokens(tokenizer, caption, 24, full=True)
    notes = [note for note in tokens.notes if "leaves out" in note]
    named = ", ".join(map(repr, dropped))
    assert notes == [f"the tokenizer leaves out {named}: the model does not read {'them' if dropped[1:] else 'it'}"] * (
        len(dropped) > 0
    )


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
        ("1.5 m", ["1.5", "m"]),
        ("1,000,000.50, v2.1.", ["1,000,000.50", ",", "v2.1", "."]),
        ("C++, C# and a+b", ["C++", ",", "C#", "and", "a", "+", "b"]),
        ("wow!!! so... :-)", ["wow", "!!!", "so", "...", ":", "-", ")"]),
        ("<|endoftext|> a<b>c</b> x<y", ["<|endoftext|>", "a", "<b>", "c", "</b>", "x", "<", "y"]),
        ("แมวดำ", ["แ", "ม", "ว", "ดำ"]),
        ("ខ្មែរ", ["ខ្មែ", "រ"]),
    ],
)
def test_words_of_single_characters(caption: str, wanted: list[str]) -> None:
    """With one token per character, the words are those of the pattern."""
    offsets = [(i, i + 1) for i, sign in enumerate(caption) if not sign.isspace()]
    actual = words_by_offsets(caption, [caption[a:b] for a, b in offsets], [True] * len(offsets), offsets)
    assert [word.text for word in actual] == wanted


MARKS = ["!!!", "C++", "...", "://", "3.14", "100,000", "<|endoftext|>"]


@every_tokeniser
@pytest.mark.parametrize("mark", MARKS)
def test_marks_are_shown_as_they_were_typed(kind: str, mark: str) -> None:
    spelt = words(TOKENISERS[kind](f"cat {mark}"))
    assert "".join(spelt).lower() == f"cat{mark}".lower()
    count = 2 if mark == "://" and kind == "word pieces" else 1  # ":" and "//", as it has no token for all
    assert len(spelt) == 1 + count


@pytest.mark.parametrize(
    ("caption", "offsets", "wanted"),
    [
        ("http://x", [(0, 4), (4, 7), (7, 8)], ["http", "://", "x"]),
        ('he said."', [(0, 2), (2, 7), (7, 9)], ["he", "said", '."']),
        ("สวัสดีแมว", [(0, 2), (2, 4), (4, 6), (6, 9)], ["สวัส", "ดี", "แมว"]),  # a vowel sign begins the second token
        ("แมวดำ", [(0, 3), (3, 5)], ["แมว", "ดำ"]),
        ("日本の猫", [(0, 2), (2, 3), (3, 4)], ["日本", "の", "猫"]),
        ("🐱🐱 x", [(0, 2), (2, 4)], ["🐱🐱", "x"]),
        ("two  cats \n", [(0, 3), (3, 5), (5, 9), (9, 10), (10, 11)], ["two", "cats"]),
    ],
)
def test_what_a_token_spells_is_never_parted(caption: str, offsets: list[tuple[int, int]], wanted: list[str]) -> None:
    texts = [caption[a:b].replace(" ", "▁") for a, b in offsets]
    actual = words_by_offsets(caption, texts, [True] * len(offsets), offsets)
    assert [word.text for word in actual] == wanted


@pytest.mark.parametrize("kind", ["gemma", "sentence pieces"])
def test_blanks_are_no_words(kind: str) -> None:
    tokens = TOKENISERS[kind]("  two   cats   ")
    assert words(tokens) == ["two", "cats"]
    blank = [row for row, text in enumerate(tokens.texts) if text and not text.strip("▁")]
    assert blank[-1] > tokens.words[-1].tokens[-1], "the last blanks are rows"
    assert not tokens.explained[blank[-1]], "which are not explained"
    assert sum(tokens.explained) == sum(len(word.tokens) for word in tokens.words)


def test_special_tokens_in_a_caption_are_noted() -> None:
    for kind, piece in (
        ("sentence pieces", "</s>"),
        ("gemma", "<eos>"),
        ("byte pairs", "<end_of_text>"),
        ("byte pairs", "<start_of_text>"),
        ("word pieces", "[UNK]"),
    ):
        (note,) = TOKENISERS[kind](f"a {piece} cat").notes
        assert note.startswith(f"the caption has {piece!r}, a special token of the model")
        assert TOKENISERS[kind]("a cat").notes == ()


def test_an_end_token_for_what_is_unknown_is_noted_only_where_it_is_typed() -> None:
    """CLIP's tokenizer has one token for both."""
    tokenizer = tiny.clip_tokenizer(ends_highest=True)
    tokenizer.unk_token = "<end>"
    assert len(hugging_face.tokens(tokenizer, "a <end> cat", 16, full=True).notes) == 1
    assert hugging_face.tokens(tokenizer, "a zebra cat", 16, full=True).notes == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("(412,230)", ["(", "412", ",", "230", ")"]),
        ("[412,230,500,612]", ["[", "412", ",", "230", ",", "500", ",", "612", "]"]),
        ("0.41,0.23", ["0.41", ",", "0.23"]),
        ("(about 1,000)", ["(", "about", "1,000", ")"]),
        ("1,234.50", ["1,234.50"]),
        ("(3.14)", ["(", "3.14", ")"]),
    ],
)
def test_coordinates_are_words_of_their_own_whose_digits_stay_together(text: str, wanted: list[str]) -> None:
    """Each character is a token, as with models that write numbers digit by digit."""
    offsets = [(place, place + 1) for place in range(len(text))]
    found = words_by_offsets(text, list(text), [True] * len(text), offsets)
    assert [word.text for word in found] == wanted
    assert [row for word in found for row in word.tokens] == [*range(len(text))]
    assert all("".join(text[row] for row in word.tokens).strip() == word.text for word in found)


def test_words_after_a_typed_end_token_are_words() -> None:
    """They have no influence on the model, but the caption has words."""
    tokens = by_byte_pairs("<end_of_text> cat")
    assert words(tokens) == ["<end_of_text>", "cat"]
    assert [row for row, word in enumerate(tokens.explained) if word] == [1, 2]


CLIP_SAYS = [
    "a photo of a cat",
    "an axolotl's umbrella",
    "1.5 liters!",
    "日本の猫",
    "a cat 🐱!",
    "Naïve café",
    "x-ray",
    "état 👩‍👩‍👧",
    "don't",
    "...",
    "C++ costs 100,000!!!",
    "http://x.org",
    "สวัสดีแมว",
]


@pytest.mark.parametrize("caption", few(CLIP_SAYS, list(CLIP_SAYS)[::3]))
def test_tokenizers_of_both_libraries_give_the_same_words(caption: str) -> None:
    """The tokenizers of Hugging Face and OpenCLIP share a vocabulary."""
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


def test_token_with_a_leading_space_belongs_to_the_next_word() -> None:
    actual = words_by_offsets("two cats", ["two", "Ġcats"], [True, True], [(0, 3), (3, 8)])
    assert [(word.text, word.tokens) for word in actual] == [("two", (0,)), ("cats", (1,))]


@every_tokeniser
def test_long_captions_are_truncated_with_a_note(kind: str) -> None:
    context = {"byte pairs": 77, "gemma": 4 * tiny.CONTEXT}.get(kind, tiny.CONTEXT)
    tokens = TOKENISERS[kind](" ".join(["cat"] * 100))
    assert len(tokens.ids) == context
    (note,) = tokens.notes
    assert f"the model uses {context}" in note
    special = {"offsets": 2, "sentence pieces": 1, "word pieces": 2, "byte pairs": 2, "gemma": 3}[kind]
    assert f"has {100 + special} tokens" in note
    assert len(tokens.words) == context - special
    assert TOKENISERS[kind]("a cat").notes == ()


@every_tokeniser
def test_tokens_equal_those_of_the_tokenizer(kind: str) -> None:
    caption = "a photo of two zebras"
    ids = TOKENISERS[kind](caption).ids
    if kind == "byte pairs":
        assert list(ids) == open_clip.SimpleTokenizer()([caption])[0].tolist()
        return
    built = {
        "offsets": tiny.clip_tokenizer(False),
        "sentence pieces": tiny.sentence_tokenizer(),
        "word pieces": tiny.wordpiece_tokenizer(),
        "gemma": tiny.gemma_tokenizer(),
    }[kind]
    padding = False if kind == "offsets" else "max_length"
    length = len(ids) if kind == "gemma" else tiny.CONTEXT
    assert list(ids) == built(caption, truncation=True, max_length=length, padding=padding)["input_ids"]


@pytest.mark.parametrize("kind", ["clip", "own vit", "bert"])
def test_captions_without_a_word_are_rejected(kind: str) -> None:
    tower = tiny.model(kind).text
    caption = "\u200d" if kind == "bert" else "   "  # read_caption rejects blank captions; tokenizers drop more
    with pytest.raises(BadInput, match="finds no word in the caption"):
        tower.prepare(["a cat", caption])


def test_batches_of_captions_are_padded() -> None:
    inputs = tiny.model("clip").text.prepare(["cat", "a photo of a cat"])
    assert inputs.extra["attention_mask"].sum(1).tolist() == [3, 7]
    assert inputs.values.shape == (2, 7)
    assert inputs.words is not None
    assert inputs.words.explained.sum(1).tolist() == [1, 5]
    alone = inputs.take([0])
    assert alone.words is not None
    assert torch.equal(alone.words.explained[0], inputs.words.explained[0])
    assert len(alone) == 1


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_open_clip_wrapper_cleans_captions_first(clean: str, tmp_path: Any) -> None:
    tiny.wordpiece_tokenizer().save_pretrained(tmp_path)
    tokenizer = tiny.HFTokenizer(str(tmp_path), tiny.CONTEXT, clean=clean)
    tokens = own.tokens(tokenizer, "Two  Cats!", tiny.CONTEXT)
    assert list(tokens.ids) == tokenizer(["Two  Cats!"])[0].tolist()
    wanted = {"lower": ["two", "cats", "!"], "whitespace": ["Two", "Cats", "!"], "canonicalize": ["two", "cats"]}
    assert words(tokens) == wanted[clean]


def test_stripped_separators_are_kept_out(tmp_path: Any) -> None:
    tiny.wordpiece_tokenizer().save_pretrained(tmp_path)
    tokenizer = tiny.HFTokenizer(str(tmp_path), tiny.CONTEXT, strip_sep_token=True)
    tokens = own.tokens(tokenizer, "two cats", tiny.CONTEXT)
    assert list(tokens.ids) == tokenizer(["two cats"])[0].tolist()
    assert words(tokens) == ["two", "cats"]


def test_hidden_cleaning_is_followed() -> None:
    """OpenCLIP's SigLIP tokenizer hides its cleaning, so its ids are authoritative."""

    class Secret:
        tokenizer = tiny.wordpiece_tokenizer()

        def __call__(self, texts: list[str], context_length: int) -> Tensor:
            options = {"padding": "max_length", "truncation": True, "max_length": context_length}
            return torch.tensor([self.tokenizer(text.replace("!", ""), **options)["input_ids"] for text in texts])

    tokens = own.tokens(Secret(), "two! cats", tiny.CONTEXT)
    assert words(tokens) == ["two", "cats"]
    assert sum(tokens.explained) == 2
