"""A second network, for checks of what was found on the first: a small SiglipModel of 6 blocks a side.

Its patches are half as wide (16 x 16 units), it has no class token, and its image head pools by attention.
"""

import math

import network as clip
import torch
from course import Course, Part
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD

from nibt.datasets.scenes import SIDE

CONTEXT = 24  # the longest caption of four objects fits; SigLIP computes all places of each caption
PATCH = 8
MEAN, STD = IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD
ABOUT = (
    "A small SiglipModel (6 blocks a side, 16 x 16 patches, pooled by attention) that knows 64 nouns, trained on the "
    "scenes of nibt.datasets.scenes; it knows nothing else."
)
COURSE = Course(
    parts=(
        Part(390, 0.2, {"fewest": 1, "most": 1, "smallest": 35}),
        Part(910, 0.25, {"fewest": 1, "most": 2, "smallest": 27}),
        Part(1700, 0.3, {}),
        Part(2000, 0.5, {}),
        Part(2200, 1.0, {}),
    ),
    batch=96,
    warm_up=150,
    contrast=650,
    cosine=2700,
    fall=400,
)


def tokenizer():
    """The same vocabulary, in the form of SigLIP's: no start token, and the end token is the padding."""
    words = clip.tokenizer()
    core = words.backend_tokenizer
    core.post_processor = TemplateProcessing(
        single=f"$A {clip.END}", special_tokens=[(clip.END, core.token_to_id(clip.END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=CONTEXT,
        eos_token=clip.END,
        pad_token=clip.END,
        unk_token=clip.END,
        model_input_names=["input_ids"],
    )


def processor():
    return SiglipProcessor(SiglipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer())


def network(words):
    """An untrained model for a tokenizer; about 2 million parameters."""
    image, text = clip.towers(words, 6, PATCH, CONTEXT)
    model = SiglipModel(SiglipConfig(vision_config=image, text_config=text | {"projection_size": 128}))
    with torch.no_grad():
        model.logit_scale.fill_(math.log(1 / 0.07))  # as CLIP's; the library begins at 0
    return model


def image_embeddings(model, pixels, kept=None):
    """Unit embeddings of images; ``kept`` (batch x count) are the patches that are looked at, all without it."""
    tower = model.vision_model
    tokens = tower.embeddings(pixels)
    if kept is not None:
        tokens = tokens.gather(1, kept[..., None].expand(-1, -1, tokens.shape[-1]))
    states = tower.encoder(inputs_embeds=tokens).last_hidden_state
    return torch.nn.functional.normalize(tower.head(tower.post_layernorm(states)), dim=-1)


def text_embeddings(model, words, captions):
    """Unit embeddings of captions, padded to the full length without a mask, as SigLIP does."""
    ids = words(captions, padding="max_length", return_tensors="pt").input_ids
    return torch.nn.functional.normalize(model.text_model(ids).pooler_output, dim=-1)
