"""Tokenizers as released ones: the same class, special tokens and post-processor, with a vocabulary of a few words.

The vocabulary is trained on a few sentences, so that most words have several tokens, and other characters their bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SENTENCES = [
    "a photo of the two red cats and dogs on a small gray sleeping mat with a bird in a tree",
    "what is in the image ? Describe the image . is there a car , a house or a boat ?",
    "system user assistant User Assistant You are a helpful assistant . Represent the input Query : Question Answer",
    "This is a photo of a cat . The blue sky is above the house . A man rides a horse on the beach .",
]
_SIZE = 160  # tokens beside single bytes, or characters
_NAMES = ("bos", "eos", "unk", "pad", "sep", "cls", "mask")


@dataclass(frozen=True)
class Ids:
    """The number of rows of a small vocabulary, and the small id for each released id."""

    count: int
    small: Mapping[int, int]


def save_tokenizer(facts: Mapping[str, Any], folder: Path) -> Ids:
    """Write the files of the tokenizer, and return its ids."""
    known = facts["tokenizer"]
    special = special_tokens(known)
    tokenizer = _TRAINED[known["type"]](known, special)
    text = {name: known[f"{name}_token"] for name in _NAMES if isinstance(known.get(f"{name}_token"), str)}
    vocabulary = tokenizer.get_vocab()
    before, after = (
        [text[name] for name in names if known.get(f"adds_{name}") and name in text] for names in (("bos",), ("eos",))
    )
    if known["type"] == "wordpiece":
        before, after = ["[CLS]"], ["[SEP]"]
    if before or after:
        template = [*before, "$A", *after]
        pair = [*template, *(f"{piece}:1" if piece.startswith("$") else piece for piece in ("$B", *after))]
        listed = [(piece, vocabulary[piece]) for piece in dict.fromkeys([*before, *after])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(template), pair=" ".join(pair), special_tokens=listed
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    kept = {key: value for key, value in known.items() if key not in _OURS}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept, indent=2), encoding="utf-8")
    if known.get("tokenizer_class") == "SiglipTokenizer":  # which reads the model of SentencePiece itself
        (folder / "tokenizer.json").unlink()
        vocabulary = _sentence_piece(known, folder / "spiece.model")
    small = _small_ids(known, text, special, vocabulary)
    return Ids(max([*vocabulary.values(), *small.values()]) + 1, small)


_OURS = {"type", "adds_bos", "adds_eos", "special", "ids", "note"}


def special_tokens(known: Mapping[str, Any]) -> list[str]:
    """Return all special tokens of a release in the order of their ids, those without a known id last."""
    named = {name: token for name in _NAMES if isinstance(token := known.get(f"{name}_token"), str)}
    ids = {named.get(name, name): number for name, number in reversed(known.get("ids", {}).items())}
    tokens = dict.fromkeys([*named.values(), *known.get("special", ())])
    return sorted(tokens, key=lambda token: ids.get(token, 10**9))


def _small_ids(
    known: Mapping[str, Any], text: Mapping[str, str], special: list[str], vocabulary: Mapping[str, int]
) -> dict[int, int]:
    """Return the small id of each released id whose token is known: by its text, by its role, or by its name."""
    result = {}
    for name, number in known.get("ids", {}).items():
        token = name if name in vocabulary else text.get(name)
        if token is None:
            near = [piece for piece in special if name.replace("_", "") in piece.lower().replace("_", "")]
            token = min(near, key=len, default=None)
        # a row that no token has, such as the start of BLIP's decoder, comes after all others
        result[number] = vocabulary.get(token, len(vocabulary) + len(set(result.values()) - {*vocabulary.values()}))
    return result


def _sentence_piece(known: Mapping[str, Any], path: Path) -> dict[str, int]:
    """Train and write a model of SentencePiece, and return its vocabulary."""
    import sentencepiece

    ids, out = known["ids"], BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=out,
        vocab_size=90,
        hard_vocab_limit=False,
        pad_id=-1,
        bos_id=-1,
        eos_id=ids["eos"],
        unk_id=ids["unk"],
        minloglevel=2,
    )
    path.write_bytes(out.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    return {pieces.id_to_piece(number): number for number in range(pieces.get_piece_size())}


def _add(tokenizer: Tokenizer, special: list[str]) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def _clip_pairs(known: Mapping[str, Any], special: list[str]) -> Tokenizer:
    """CLIP's byte pairs, whose last tokens are those of start and end."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=known.get("unk_token")))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(letters) + _SIZE, initial_alphabet=letters, end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    data = json.loads(tokenizer.to_str())
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    pieces += [piece for piece in data["model"]["vocab"] if piece not in pieces]
    ends = [token for token in ("<|startoftext|>", "<|endoftext|>") if token in special]
    data["model"]["vocab"] = {piece: number for number, piece in enumerate([*pieces, *ends])}
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.ByteLevel()
    return _add(tokenizer, [*ends, *(token for token in special if token not in ends)])


def _byte_pairs(known: Mapping[str, Any], special: list[str]) -> Tokenizer:
    """Byte pairs of GPT-2 and Qwen, whose special tokens come last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(known.get("add_prefix_space")))
    tokenizer.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        SENTENCES, trainers.BpeTrainer(vocab_size=len(letters) + _SIZE, initial_alphabet=letters)
    )
    return _add(tokenizer, special)


def _sentence_pairs(known: Mapping[str, Any], special: list[str]) -> Tokenizer:
    """SentencePiece's byte pairs of Llama and Gemma, with single bytes for other characters."""
    prefix = [normalizers.Prepend("▁")] if "Llama" in known.get("tokenizer_class", "") else []
    singles = [f"<0x{number:02X}>" for number in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=known["unk_token"], fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=len(special) + 256 + _SIZE, special_tokens=[*special, *singles])
    tokenizer.train_from_iterator([sentence.replace(" ", "▁") for sentence in SENTENCES], trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [token for token in data["added_tokens"] if token["content"] in special]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = None
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    return tokenizer


def _unigram(known: Mapping[str, Any], special: list[str]) -> Tokenizer:
    """SentencePiece's unigrams of T5, XLM-R and SigLIP."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=_SIZE, special_tokens=special, unk_token=known["unk_token"])
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _word_pieces(known: Mapping[str, Any], special: list[str]) -> Tokenizer:
    """BERT's pieces of words."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=known.get("do_lower_case", True))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    first = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=_SIZE + 100, special_tokens=[*first, *(token for token in special if token not in first)]
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


_TRAINED = {
    "byte-bpe": _byte_pairs,
    "clip-bpe": _clip_pairs,
    "sentencepiece-bpe": _sentence_pairs,
    "unigram": _unigram,
    "wordpiece": _word_pieces,
}
