"""A network with late interaction, whose truth is known: a small ColPaliForRetrieval with a vector for each token.

Its image side is a SigLIP tower of 4 blocks whose 8 x 8 patches are read by a Gemma of 4 layers; a query is read by the
same Gemma. It has no logit scale; the one that is trained here is left out of the model.
"""

import math

import network as clip
import torch
from course import Course, Part
from transformers import (
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
)
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from nibt.datasets.scenes import SIDE

CONTEXT = 128
PATCH = 16
PATCHES = (SIDE // PATCH) ** 2
WIDTH = 128
MEAN, STD = IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD
ABOUT = (
    "A small ColPaliForRetrieval (4 blocks, then 4 layers of Gemma, 8 x 8 patches, 64 numbers for each token) that "
    "knows 64 nouns, trained on the scenes of nibt.datasets.scenes; it knows nothing else."
)
COURSE = Course(
    parts=(
        Part(300, 0.33, {"fewest": 1, "most": 1, "smallest": 35}),
        Part(800, 0.45, {"fewest": 1, "most": 2, "smallest": 27}),
        Part(1500, 0.6, {}),
        Part(2200, 1.0, {}),
    ),
    batch=64,
    warm_up=150,
    contrast=650,
    cosine=2500,
)


def tokenizer():
    """The vocabulary of the CLIP network, without tokens around a text."""
    core = clip.tokenizer().backend_tokenizer
    core.post_processor = None
    words = PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=CONTEXT,
        bos_token=clip.START,
        eos_token=clip.END,
        pad_token=clip.END,
        unk_token=clip.END,
    )
    return processor_of(words).tokenizer  # which adds the tokens of ColPali


def processor_of(words):
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    images.image_seq_length = PATCHES
    return ColPaliProcessor(images, words, visual_prompt_prefix="", query_prefix="")


def processor():
    return processor_of(tokenizer())


def network(words):
    """An untrained model for a tokenizer."""
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
        "vision_use_head": False,
    }
    text = {
        "model_type": "gemma",
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": WIDTH // 4,
        "vocab_size": len(words),
        "max_position_embeddings": 256,
        "pad_token_id": words.pad_token_id,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }
    image_token = words.convert_tokens_to_ids("<image>")
    vlm = {"model_type": "paligemma", "vision_config": vision, "text_config": text, "projection_dim": WIDTH}
    vlm |= {"hidden_size": WIDTH, "image_token_index": image_token, "vocab_size": len(words)}
    model = ColPaliForRetrieval(ColPaliConfig(vlm_config=vlm, embedding_dim=64))
    model.logit_scale = torch.nn.Parameter(torch.tensor(math.log(1.0)))
    return model


def image_embeddings(model, pixels, kept=None):
    """The vectors of images: (image, token, 64); ``kept`` (batch x count) are the patches that are looked at."""
    config = model.config.vlm_config
    ids = torch.full((len(pixels), (PATCHES if kept is None else kept.shape[1]) + 1), config.image_token_id)
    ids[:, -1] = config.text_config.bos_token_id
    patches = model.vlm.vision_tower.embeddings
    handle = patches.register_forward_hook(lambda _, args, out: out if kept is None else _chosen(out, kept))
    try:
        return model(ids, pixels, torch.ones_like(ids), token_type_ids=torch.zeros_like(ids)).embeddings
    finally:
        handle.remove()


def _chosen(tokens, kept):
    return tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))


def text_embeddings(model, words, captions):
    """The vectors of queries, zeros for padding: (query, token, 64)."""
    inputs = processor_of(words).process_queries(list(captions))
    return model(**inputs).embeddings


def similarities(seen, texts):
    """MaxSim of every image with every query."""
    rows, (queries, tokens, _) = texts.flatten(0, 1), texts.shape
    largest = torch.cat([(part @ rows.T).amax(1) for part in seen.split(16)])
    return largest.unflatten(1, (queries, tokens)).sum(-1)
