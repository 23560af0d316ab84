"""The tokenizer: whole words in lower case, punctuation dropped, the rest unknown; Hugging Face's fast format."""

import json

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "[START]", "[END]"
CONTEXT = 32


def vocabulary(named, neutral):
    """word -> number; the end token has the largest number, since OpenCLIP's `argmax` pooling reads there."""
    words = dict.fromkeys([word for name in named for word in name.split()] + neutral)
    ordered = [PAD, UNKNOWN, START, *sorted(words)]
    ordered += [f"[SPARE{i}]" for i in range(-(len(ordered) + 1) % 8)] + [END]
    return {word: number for number, word in enumerate(ordered)}


def write(folder, numbers):
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^\p{L}\p{N}]+"), "removed")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, numbers[START]), (END, numbers[END])]
    )
    tokenizer.add_special_tokens([PAD, UNKNOWN, START, END])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": PAD,
        "unk_token": UNKNOWN,
        "bos_token": START,
        "eos_token": END,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
