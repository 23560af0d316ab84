"""Tiny random models of every kind that nibt supports, with processors and tokenizers.

Weights are seeded. Biases and norms are random, too: in a new net they are zero or one, a zero state embeds to zero,
and errors stay unnoticed.
"""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import open_clip
import timm
import torch
from open_clip.timm_model import TimmModel
from open_clip.tokenizer import HFTokenizer
from peft import LoraConfig, get_peft_model
from PIL import Image
from timm.layers import HybridEmbed
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    M2M100Config,
    MT5Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from benchmarks.models import tiny_families
from nibt.data.images import ImageInput
from nibt.models._loading import load_model
from nibt.models.base import Model
from tests import openai_clip
from tests.shared_models import shared

CONTEXT = 16
WORDS = (
    "a photo of the two red cat s dog cats car cars and on small gray sleeping mat bird tree blue sky with"
).split()
CAPTIONS = ("a photo of a cat and a dog", "two cars", "a small gray bird sleeping on the red mat", "cat")


@dataclass(frozen=True)
class BuiltModel:
    """A model as its library builds it, and what prepares its inputs."""

    module: nn.Module
    processor: Any = None
    tokenizer: Any = None


def image(width: int = 64, height: int = 48, seed: int = 0) -> ImageInput:
    """Return coarse colored noise, of which resizing leaves something."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return ImageInput(Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST), f"noise {seed}")


IMAGES = [image(64, 48, 0), image(90, 30, 1), image(30, 90, 2), image(64, 48, 3)]
"""Images of several shapes, as many as there are captions."""


def _spread(part: nn.Module, gain: float) -> None:
    """Set weights so large that the inputs affect the outputs."""
    weight = getattr(part, "weight", None)
    if isinstance(part, nn.Embedding):
        weight.normal_()
    elif isinstance(part, nn.Linear | nn.Conv2d):
        weight.normal_(0, (1.5 if isinstance(part, nn.Linear) else gain) / weight[0].numel() ** 0.5)
    elif isinstance(weight, nn.Parameter) and weight.ndim == 1:  # zero at the end of the blocks of a ResNet
        weight.uniform_(0.5, 1.5)


def randomized(make: Callable[[], nn.Module], gain: float = 1.2) -> nn.Module:
    """Return a seeded model in evaluation mode whose blocks all matter; the global generator is unchanged."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        module = make()
        for part in module.modules():
            _spread(part, gain)
        saved = module.state_dict()
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name not in saved:  # computed from the configuration
                continue
            kind = name.rsplit(".", 1)[-1]
            if ("bias" in kind and "logit" not in kind) or kind == "running_mean":
                tensor.normal_(0, 0.3)
            elif kind in ("gamma", "layer_scale", "running_var") or "ls" in name.split(".")[-2:-1]:
                tensor.uniform_(0.5, 1.5)
            elif kind in ("cls_emb", "cls_token", "reg_token", "pos_embed", "positional_embedding", "text_projection"):
                tensor.normal_(0, 0.3)
    return module.eval()


# Tokenizers


def _fast(core: Tokenizer, **special: Any) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=CONTEXT, **special)


def _framed(core: Tokenizer, first: str, last: str) -> None:
    core.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}".strip(),
        special_tokens=[(token, core.token_to_id(token)) for token in (first, last) if token],
    )


def clip_tokenizer(ends_highest: bool) -> PreTrainedTokenizerFast:
    """Whole words; the end token is the padding, as in OpenAI's tokenizer, and may have the highest id."""
    special = ["<start>", "<end>", "<unknown>"]
    vocabulary = [*WORDS, "<start>", "<unknown>", "<end>"] if ends_highest else ["!", "?", *special, *WORDS]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unknown>"))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    _framed(core, "<start>", "<end>")
    return _fast(core, bos_token="<start>", eos_token="<end>", pad_token="<end>", unk_token="<unknown>")


def sentence_tokenizer(**named: Any) -> PreTrainedTokenizerFast:
    """SentencePiece's pieces; padding and end come first."""
    pieces = [*(f"▁{word}" for word in WORDS), *"abcdefghijklmnopqrstuvwxyz▁"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(piece, -1.0 if len(piece) > 1 else -8.0) for piece in dict.fromkeys(pieces)]
    core = Tokenizer(models.Unigram(vocabulary, unk_id=2))
    core.normalizer, core.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    _framed(core, "", "</s>")
    return _fast(core, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", **named)


def wordpiece_tokenizer() -> PreTrainedTokenizerFast:
    """BERT's pieces; those that continue a word begin with ##."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *letters, *(f"##{letter}" for letter in letters)]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(vocabulary))}
    core = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    _framed(core, "[CLS]", "[SEP]")
    return _fast(core, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of Gemma: several blanks may be one token, and what is not in the vocabulary is spelt in bytes."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    merged = ["▁▁", "▁▁▁", "!!!", "...", "://", "++", "日本", "แมว", *(f"▁{word}" for word in WORDS)]
    merges = [(word[:end], word[end]) for word in merged for end in range(1, len(word))]
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz\n", *"".join(merged)})
    pieces = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *letters, *(a + b for a, b in merges)]
    ids = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    core = Tokenizer(models.BPE(ids, list(dict.fromkeys(merges)), byte_fallback=True, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.add_special_tokens(special)
    _framed(core, "", "<eos>")
    return _fast(core, eos_token="<eos>", bos_token="<bos>", pad_token="<pad>", unk_token="<unk>")


# Models of Hugging Face

_VIT = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
_TEXT = {"hidden_size": 20, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}


def clip(image: int = 32, patch: int = 8, legacy: bool = False, adapted: bool = False) -> BuiltModel:
    tokenizer = clip_tokenizer(ends_highest=legacy)
    config = CLIPConfig(
        vision_config={**_VIT, "image_size": image, "patch_size": patch},
        text_config={
            **_TEXT,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": 2 if legacy else tokenizer.eos_token_id,
            "pad_token_id": 1 if legacy else tokenizer.pad_token_id,
        },
        projection_dim=12,
    )
    processor = CLIPProcessor(
        CLIPImageProcessor(size={"shortest_edge": image}, crop_size={"height": image, "width": image}), tokenizer
    )

    def make() -> nn.Module:
        plain = CLIPModel(config)
        if not adapted:
            return plain
        lora = LoraConfig(target_modules=["q_proj", "v_proj", "token_embedding"], r=2, init_lora_weights=False)
        with warnings.catch_warnings():  # PEFT calls a deprecated function of Transformers
            warnings.simplefilter("ignore", FutureWarning)
            return get_peft_model(plain, lora)

    return BuiltModel(randomized(make), processor)


def siglip(naflex: bool = False) -> BuiltModel:
    tokenizer = sentence_tokenizer(model_input_names=["input_ids"])  # as released: without a mask of padding
    text = {**_TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "projection_size": 24}
    if naflex:
        config = Siglip2Config(vision_config={**_VIT, "patch_size": 4, "num_patches": 25}, text_config=text)
        processor, kind = Siglip2ImageProcessor(patch_size=4, max_num_patches=20), Siglip2Model
    else:
        config = SiglipConfig(vision_config={**_VIT, "image_size": 30, "patch_size": 6}, text_config=text)
        processor, kind = SiglipImageProcessor(size={"height": 30, "width": 30}), SiglipModel
    return BuiltModel(randomized(lambda: kind(config)), processor, tokenizer)


# Models of OpenCLIP

_OWN_VIT = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16}
_OWN_TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}


def configuration(vision: dict | None = None, text: dict | None = None, plain: bool = False) -> dict[str, Any]:
    """Return a configuration of OpenCLIP."""
    return {
        "embed_dim": 16,
        "vision_cfg": (vision or {}) if plain else {**_OWN_VIT, **(vision or {})},
        "text_cfg": {**_OWN_TEXT, **(text or {})},
    }


def own(vision: dict | None = None, text: dict | None = None, kind: Any = open_clip.CLIP, **more: Any) -> BuiltModel:
    config = configuration(vision, text)
    return BuiltModel(
        randomized(lambda: kind(**config, **more)), None, open_clip.SimpleTokenizer(context_length=CONTEXT)
    )


def both_ways() -> BuiltModel:
    """A text tower without a causal mask, in which padding is masked; no configuration of OpenCLIP has that yet."""
    built = own(text={"no_causal_mask": True, "pool_type": "first", "proj_bias": True}, kind=open_clip.CustomTextCLIP)
    built.module.text.use_pad_mask = True
    return built


def coca_configuration() -> dict[str, Any]:
    """Return the configuration of CoCa, whose decoder has the width of both towers' tokens."""
    vision = {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 6, "output_tokens": True}
    text = {"embed_cls": True, "output_tokens": True, "width": 16}
    decoder = {"context_length": CONTEXT, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    return {**configuration(vision, text), "multimodal_cfg": {**decoder, "attn_pooler_heads": 2}}


def coca() -> BuiltModel:
    module = randomized(lambda: open_clip.CoCa(**coca_configuration()))
    return BuiltModel(module, None, open_clip.SimpleTokenizer(context_length=CONTEXT))


def trunk(
    make: Callable[[], nn.Module], pool: str = "token", proj: bool = True, size: int = 32, gain: float = 1.2
) -> BuiltModel:
    """An image tower around a trunk of timm, smaller than any that timm has a name for."""

    def build() -> nn.Module:
        module = open_clip.CustomTextCLIP(**configuration())
        visual = TimmModel("test_vit", embed_dim=16, image_size=size)
        visual.trunk = make()
        visual.trunk.reset_classifier(0, **({"global_pool": pool} if pool else {}))
        width = visual.trunk.num_features
        visual.head = nn.Sequential(nn.Linear(width, 16)) if proj else nn.Sequential()
        module.visual = visual
        return module

    return BuiltModel(randomized(build, gain), None, open_clip.SimpleTokenizer(context_length=CONTEXT))


def vit_trunk(name: str, pool: str, proj: bool = True, **options: Any) -> BuiltModel:
    options = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2, **options}
    return trunk(lambda: timm.create_model(name, **options), pool, proj, options["img_size"])


def hybrid_trunk() -> BuiltModel:
    """A trunk like that of MobileCLIP-B: a convolutional stem, then a transformer on its features."""
    stem = {"channels": (4, 8, 16), "stride": (4, 2, 2), "kernel_size": (4, 2, 2), "padding": 0, "act_layer": nn.GELU}

    def make() -> nn.Module:
        embed = partial(HybridEmbed, backbone=ConvStem(**stem), proj=False)
        return VisionTransformer(64, patch_size=1, embed_dim=16, depth=3, num_heads=2, embed_layer=embed)

    return trunk(make, "token", size=64)


def conv_trunk(name: str, gain: float = 1.2, **options: Any) -> BuiltModel:
    """A convolutional trunk; ``gain`` keeps its sums small, since rounding would show in the maps."""
    return trunk(lambda: timm.create_model(name, **options), "avg", size=64, gain=gain)


_ENCODER = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
_SEQUENCE = {
    "d_model": 24,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}


def encoder(kind: str, pooler: str, proj: str | None = "linear") -> BuiltModel:
    """An OpenCLIP model whose text tower is an encoder of Hugging Face, as in BiomedCLIP or NLLB-CLIP."""
    folder = Path(mkdtemp())
    tokenizer = wordpiece_tokenizer() if kind == "bert" else sentence_tokenizer()
    places = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT + 2, "pad_token_id": 0}
    configs: dict[str, Callable[[], Any]] = {
        "bert": lambda: BertConfig(**_ENCODER, **places),
        "roberta": lambda: RobertaConfig(**_ENCODER, **places),
        "mt5": lambda: MT5Config(vocab_size=len(tokenizer), d_model=24, d_kv=12, d_ff=32, num_layers=3, num_heads=2),
        "m2m_100": lambda: M2M100Config(**_SEQUENCE, **places, scale_embedding=True),
    }
    configs[kind]().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    text = {"hf_model_name": str(folder), "hf_model_pretrained": False, "hf_pooler_type": pooler, "hf_proj_type": proj}
    config = {"embed_dim": 16, "vision_cfg": _OWN_VIT, "text_cfg": text}
    return BuiltModel(randomized(lambda: open_clip.CustomTextCLIP(**config)), None, HFTokenizer(str(folder), CONTEXT))


# Further classes


def family(name: str) -> BuiltModel:
    """Return a dual encoder of Transformers."""
    built = tiny_families.FAMILIES[name]()
    return BuiltModel(built.module, built.processor, built.tokenizer)


def openai() -> BuiltModel:
    return BuiltModel(randomized(lambda: openai_clip.CLIP(CONTEXT)))


def swin_trunk() -> BuiltModel:
    options = {"embed_dim": 16, "depths": (1, 1, 2), "num_heads": (2, 2, 2), "img_size": 32, "window_size": 4}
    return trunk(lambda: timm.create_model("swin_tiny_patch4_window7_224", **options), pool="avg")


def naflex_trunk() -> BuiltModel:
    options = {"embed_dim": 32, "depth": 3, "num_heads": 2, "patch_size": 8}
    return trunk(lambda: timm.create_model("naflexvit_base_patch16_siglip", **options), pool="map")


# All kinds

_FASTVIT = {"layers": (1, 1, 1, 1), "embed_dims": (16, 32, 64, 64)}
KINDS: dict[str, Callable[[], BuiltModel]] = {
    "clip": clip,
    "clip legacy end": lambda: clip(legacy=True),
    "clip odd patch": lambda: clip(image=40, patch=8),
    "clip large patch": lambda: clip(image=28, patch=14),
    "clip adapted": lambda: clip(adapted=True),
    "siglip": siglip,
    "siglip naflex": lambda: siglip(naflex=True),
    "own vit": own,
    "own vit average": lambda: own({"pool_type": "avg"}),
    "own vit average late norm": lambda: own({"pool_type": "avg", "final_ln_after_pool": True}),
    "own vit attention": lambda: own({"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 6}),
    "own vit oblong": lambda: own({"image_size": [24, 40]}),
    "own resnet": lambda: own({"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}),
    "own text apart": lambda: own(kind=open_clip.CustomTextCLIP),
    "own text both ways": both_ways,
    "coca": coca,
    "bert": lambda: encoder("bert", "cls_last_hidden_state_pooler", "mlp"),
    "bert with pooler": lambda: encoder("bert", "cls_pooler"),
    "roberta": lambda: encoder("roberta", "mean_pooler"),
    "mt5": lambda: encoder("mt5", "mean_pooler"),
    "m2m": lambda: encoder("m2m_100", "cls_pooler"),
    "timm vit": lambda: vit_trunk("vit_tiny_patch16_224", "token", dynamic_img_size=True),
    "timm vit average": lambda: vit_trunk("vit_tiny_patch16_224", "avg", reg_tokens=2),
    "timm siglip": lambda: vit_trunk("vit_base_patch16_siglip_224", "map", proj=False),
    "timm relative places": lambda: vit_trunk("vit_relpos_medium_patch16_cls_224", ""),
    "timm hybrid": hybrid_trunk,
    "timm eva": lambda: vit_trunk("eva02_base_patch16_clip_224", "token", dynamic_img_size=True),
    "timm perception": lambda: vit_trunk("vit_pe_core_tiny_patch16_384", "map"),
    "convnext": lambda: conv_trunk("test_convnext"),
    "fastvit": lambda: conv_trunk("fastvit_mci0", gain=1.0, **_FASTVIT),
    "efficientnet": lambda: conv_trunk("test_efficientnet"),
    "resnet": lambda: conv_trunk("test_resnet"),
}
FAMILIES: dict[str, Callable[[], BuiltModel]] = {
    **{name: partial(family, name) for name in tiny_families.FAMILIES},
    "openai": openai,
    "swin": swin_trunk,
    "naflex": naflex_trunk,
}
"""Further classes, which the tests of models go through, and no others."""
ALL = KINDS | FAMILIES
CONVOLUTIONAL = ("own resnet", "convnext", "fastvit", "efficientnet", "resnet")
"""Kinds whose image towers have no attention."""
ANY_SIZE = (
    *("clip", "clip adapted", "siglip", "timm vit", "timm eva", "naflex"),
    *("convnext", "fastvit", "efficientnet", "resnet"),
)
ONE_SIZE = ("own vit", "own resnet", "coca", "timm vit average", "timm siglip")


@cache
def _built(kind: str) -> BuiltModel:
    return ALL[kind]()


def fresh(kind: str, **options: Any) -> Model:
    """Return a new model of a kind, which a test may change, but for its processor and its tokenizer."""
    built = _built(kind)
    module = copy.deepcopy(built.module)  # takes a tenth of the time of building another
    return load_model(module, processor=built.processor, tokenizer=built.tokenizer, **options)


@shared
def model(kind: str) -> Model:
    """Return the model of a kind that all tests share: a test must not change it."""
    return fresh(kind)
