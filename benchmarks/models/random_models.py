"""Small models with random weights of seven families, built by Transformers, OpenCLIP and timm alone.

Nothing here imports nibt, so that two versions of nibt explain the same models. All weights are drawn from a fixed
seed, biases and normalization included: in a fresh model these are zero or one, and a difference might not show.
"""

import timm
import torch
from open_clip import CLIP, CoCa, CustomTextCLIP, SimpleTokenizer
from open_clip.timm_model import TimmModel
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram, WordLevel
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

CONTEXT = 24
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 3}
_TEXT = {
    "hidden_size": 20,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": CONTEXT,
}
_ENDS = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "projection_size": 24}
_OPEN_VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 4, "head_width": 16}
_OPEN_TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 4}


def draw_weights(module):
    """Draw all weights again; in place, in the order of their names."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()]):
            if not tensor.is_floating_point() or "logit" in name or "mask" in name:
                continue
            if name.endswith(("running_var", "gamma")) or (tensor.ndim == 1 and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim < 2 or "embed" in name or "text_projection" in name:
                tensor.normal_(0, 0.3)
            else:
                tensor.normal_(0, 1.2 / tensor[0].numel() ** 0.5)
    return module.eval()


def word_tokenizer(captions):
    """A token for each word, between a start and an end token, as in OpenAI's CLIP."""
    words = sorted({word for caption in captions for word in caption.lower().split()})
    ids = {word: place for place, word in enumerate([*words, "<unknown>", "<start>", "<end>"])}
    core = Tokenizer(WordLevel(ids, unk_token="<unknown>"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[(name, ids[name]) for name in ("<start>", "<end>")]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=CONTEXT,
        bos_token="<start>",
        eos_token="<end>",
        pad_token="<end>",
        unk_token="<unknown>",
    )


def piece_tokenizer(captions):
    """Pieces of words, as in SigLIP: short words are one piece, long words are spelled."""
    words = sorted({word for caption in captions for word in caption.lower().split() if len(word) < 5})
    pieces = [*(f"▁{word}" for word in words), *_LETTERS, "▁", "-"]
    scores = [(piece, -1.0 if len(piece) > 1 else -8.0) for piece in dict.fromkeys(pieces)]
    core = Tokenizer(Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scores], unk_id=2))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, model_max_length=CONTEXT, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def clip(captions):
    words = word_tokenizer(captions)
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    config = CLIPConfig(
        vision_config={**_VISION, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        text_config={**_TEXT, "vocab_size": len(words), **ends},
    )
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return draw_weights(CLIPModel(config)), {"processor": CLIPProcessor(pictures, words)}


def siglip(captions):
    pieces = piece_tokenizer(captions)
    config = SiglipConfig(
        vision_config={**_VISION, "image_size": 30, "patch_size": 6},
        text_config={**_TEXT, **_ENDS, "vocab_size": len(pieces)},
    )
    pictures = SiglipImageProcessor(size={"height": 30, "width": 30})
    return draw_weights(SiglipModel(config)), {"processor": pictures, "tokenizer": pieces}


def siglip2(captions):
    pieces = piece_tokenizer(captions)
    config = Siglip2Config(
        vision_config={**_VISION, "patch_size": 4, "num_patches": 25},
        text_config={**_TEXT, **_ENDS, "vocab_size": len(pieces)},
    )
    pictures = Siglip2ImageProcessor(patch_size=4, max_num_patches=25)
    return draw_weights(Siglip2Model(config)), {"processor": pictures, "tokenizer": pieces}


def of_open_clip(kind, vision=None, text=None, **more):
    vision, text = {**_OPEN_VISION, **(vision or {})}, {**_OPEN_TEXT, **(text or {})}
    module = kind(embed_dim=16, vision_cfg=vision, text_cfg=text, **more)
    return draw_weights(module), {"tokenizer": SimpleTokenizer(context_length=CONTEXT)}


def open_clip_vit(captions):
    return of_open_clip(CLIP)


def open_clip_resnet(captions):
    return of_open_clip(CLIP, {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64})


def open_clip_coca(captions):
    pool = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 6, "output_tokens": True}
    decoder = {
        "context_length": CONTEXT,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 1,
        "attn_pooler_heads": 2,
    }
    return of_open_clip(CoCa, pool, {"embed_cls": True, "output_tokens": True}, multimodal_cfg=decoder)


def open_clip_convnext(captions):
    module = CustomTextCLIP(16, dict(_OPEN_VISION), dict(_OPEN_TEXT))
    visual = TimmModel("test_vit", embed_dim=16, image_size=64)
    visual.trunk = timm.create_model("test_convnext")
    visual.trunk.reset_classifier(0, global_pool="avg")
    visual.head = nn.Sequential(nn.Linear(visual.trunk.num_features, 16))
    module.visual = visual
    return draw_weights(module), {"tokenizer": SimpleTokenizer(context_length=CONTEXT)}


FAMILIES = (clip, siglip, siglip2, open_clip_vit, open_clip_resnet, open_clip_coca, open_clip_convnext)
"""Each takes the captions, whose words its tokenizer knows, and gives a module with its processor and tokenizer."""
