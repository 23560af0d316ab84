"""The network and its words: a small Hugging Face CLIPModel of 12 blocks a side, and a tokenizer in CLIP's format."""

from pathlib import Path

import torch
from course import Course, Part
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from nibt.datasets.scenes import SIDE, WORDS
from nibt.datasets.scenes.drawing import NOUNS

HERE = Path(__file__).parent
CONTEXT = 32
PATCH = 16
MEAN, STD = OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
START, END = "<|startoftext|>", "<|endoftext|>"
COURSE = Course(
    parts=(
        Part(390, 0.33, {"fewest": 1, "most": 1, "smallest": 35}),
        Part(910, 0.4, {"fewest": 1, "most": 2, "smallest": 27}),
        Part(1840, 0.5, {}),
        Part(2300, 1.0, {}),
    ),
    batch=128,
    warm_up=150,
    contrast=650,
    cosine=2600,
)


def tokenizer():
    """Byte-pair encoding in which every word of the scenes is one token; other words fall into pieces.

    `merges.txt` was learned by the library's `BpeTrainer` on these words. It is kept, since ties come out in another
    order each time.
    """
    signs = sorted(ByteLevel.alphabet())
    merges = [tuple(line.split()) for line in (HERE / "merges.txt").read_text().splitlines()]
    entries = [*signs, *(f"{sign}</w>" for sign in signs), *("".join(pair) for pair in merges), START, END]
    vocabulary = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    clip_tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)
    in_pieces = [word for word in sorted({*WORDS, *NOUNS}) if len(clip_tokenizer.tokenize(word)) != 1]
    if in_pieces:
        raise ValueError(f"these words are more than one token: {', '.join(in_pieces)}")
    return clip_tokenizer


def processor():
    size = {"height": SIDE, "width": SIDE}
    return CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size), tokenizer())


def towers(words, blocks, patch, context):
    """What the networks share of the configurations of their image tower and their text tower."""
    depth = {"num_hidden_layers": blocks, "num_attention_heads": 4}
    image = {**depth, "hidden_size": 128, "intermediate_size": 512, "image_size": SIDE, "patch_size": patch}
    text = {
        **depth,
        "hidden_size": 96,
        "intermediate_size": 384,
        "vocab_size": len(words),
        "max_position_embeddings": context,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    return image, text


def network(words):
    """An untrained model for a tokenizer; about 4 million parameters."""
    image, text = towers(words, 12, PATCH, CONTEXT)
    gelu = {"hidden_act": "gelu"}
    return CLIPModel(CLIPConfig(vision_config=image | gelu, text_config=text | gelu, projection_dim=128))


def image_embeddings(model, pixels, kept=None):
    """Unit embeddings of images; ``kept`` (batch x count) are the patches that are looked at, all without it."""
    tower = model.vision_model
    tokens = tower.embeddings(pixels)
    if kept is not None:
        patches = tokens[:, 1:].gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
        tokens = torch.cat([tokens[:, :1], patches], 1)
    states = tower.encoder(inputs_embeds=tower.pre_layrnorm(tokens)).last_hidden_state
    embeddings = model.visual_projection(tower.post_layernorm(states[:, 0]))
    return torch.nn.functional.normalize(embeddings, dim=-1)


def text_embeddings(model, words, captions):
    """Unit embeddings of captions."""
    states = model.text_model(**words(captions, padding=True, return_tensors="pt")).pooler_output
    return torch.nn.functional.normalize(model.text_projection(states), dim=-1)
