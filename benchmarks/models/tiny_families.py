"""Small random models of the dual encoders of Transformers, with their own processor and tokenizer classes.

``FAMILIES`` lists a builder per class, for the tests and ``zoo.py``. Nothing here imports nibt. Weights are seeded.
Biases, norms and class tokens are random, too: in a new net they are zero or one, and errors stay unnoticed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from torch import nn
from transformers import (
    BertTokenizer,
    BlipImageProcessor,
    ChineseCLIPImageProcessor,
    CLIPImageProcessor,
    CLIPTokenizer,
    EfficientNetImageProcessor,
    FlavaImageProcessor,
    Owlv2ImageProcessor,
    OwlViTImageProcessor,
    SiglipImageProcessor,
    ViTImageProcessor,
    XLMRobertaTokenizer,
)

CONTEXT = 16
WORDS = (
    "a photo of the two red cat s dog cats car cars and on small gray sleeping mat bird tree blue sky with"
).split()
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
TEXT = {"hidden_size": 20, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}


ALIGN_SIZES: Mapping[str, Any] = {
    "width_coefficient": 0.5,
    "depth_coefficient": 0.5,
    "in_channels": [32, 16, 24, 40],
    "out_channels": [16, 24, 40, 48],
    "kernel_sizes": [3, 3, 5, 3],
    "strides": [1, 2, 2, 2],
    "num_block_repeats": [1, 2, 2, 1],
    "expand_ratios": [1, 6, 6, 6],
    "hidden_dim": 64,
}
"""The sizes of the blocks of ALIGN's EfficientNet."""


@dataclass(frozen=True)
class Family:
    """A model, and what prepares its inputs."""

    module: Any
    processor: Any
    tokenizer: Any
    options: Mapping[str, str] = field(default_factory=dict)
    """Options of ``nibt.load_model``."""


def randomized(make: Callable[[], nn.Module]) -> nn.Module:
    """Return a seeded model in evaluation mode whose parts all matter; the global generator is unchanged."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        module = make()
        layers = {
            id(part.weight): part
            for part in module.modules()
            if isinstance(getattr(part, "weight", None), nn.Parameter)
        }
        for name, weight in module.named_parameters():
            part = layers.get(id(weight))
            if isinstance(part, nn.Embedding):
                weight.normal_()
            elif isinstance(part, nn.Linear | nn.Conv2d):
                weight.normal_(0, (1.5 if isinstance(part, nn.Linear) else 1.2) / weight[0].numel() ** 0.5)
            elif part is not None or "lambda" in name:  # norms and scales of layers
                weight.uniform_(0.5, 1.5)
            elif weight.ndim:  # biases, class tokens, positions
                weight.normal_(0, 0.3)
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.3)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return module.eval()


# Tokenizers


def clip_tokenizer(**options: Any) -> CLIPTokenizer:
    """CLIP's byte pairs: each word of ``WORDS`` is one token. The end token has the highest id."""
    merges, pieces = [], [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    for word in WORDS:
        letters = [*word[:-1], f"{word[-1]}</w>"]
        merges += [("".join(letters[:row]), letters[row]) for row in range(1, len(letters))]
        pieces += ["".join(letters[: row + 1]) for row in range(1, len(letters))]
    marks = ["!", '"', "#", "!</w>"]
    vocabulary = {piece: row for row, piece in enumerate(dict.fromkeys([*marks, *pieces]))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    return CLIPTokenizer(vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=CONTEXT, **options)


def bert_tokenizer(more: str = "") -> BertTokenizer:
    """BERT's pieces, with further characters."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *LETTERS, *(f"##{one}" for one in LETTERS), *more]
    return BertTokenizer(
        vocab={piece: row for row, piece in enumerate(dict.fromkeys(pieces))}, model_max_length=CONTEXT
    )


def roberta_tokenizer() -> XLMRobertaTokenizer:
    """XLM-R's SentencePiece pieces, whose padding has the id 1 and whose end token has the id 2."""
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    words = [(f"▁{word}", -1.0) for word in WORDS]
    letters = [(letter, -8.0) for letter in dict.fromkeys([*LETTERS, "▁"])]
    known = {piece for piece, _ in words}
    return XLMRobertaTokenizer(
        vocab=[*special, *words, *(pair for pair in letters if pair[0] not in known), ("<mask>", 0.0)],
        model_max_length=CONTEXT,
    )


# Image processors


def cropping(kind: Any = CLIPImageProcessor, size: int = 32) -> Any:
    return kind(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def squashing(kind: Any, size: int = 32, **options: Any) -> Any:
    return kind(size={"height": size, "width": size}, **options)


# Models


def build(name: str, config: Any, image: Any, tokenizer: Any, processor: str = "CLIPProcessor") -> Family:
    """Build a model of a class, with the processor class of its checkpoints."""
    module = randomized(lambda: getattr(transformers, name)(config))
    return Family(module, getattr(transformers, processor)(image_processor=image, tokenizer=tokenizer), tokenizer)


def config_of(name: str, vision: dict | None = None, text: dict | None = None, **more: Any) -> Any:
    """Return a small configuration of a class with ``vision_config`` and ``text_config``."""
    return getattr(transformers, name)(
        vision_config={**VISION, "image_size": 32, "patch_size": 8, **(vision or {})},
        text_config={**TEXT, "max_position_embeddings": CONTEXT, **(text or {})},
        **{"projection_dim": 12, **more},
    )


def ends(tokenizer: Any) -> dict[str, Any]:
    """Return the ids that text configurations have."""
    return {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def clip() -> Family:
    tokenizer = clip_tokenizer()
    return build("CLIPModel", config_of("CLIPConfig", text=ends(tokenizer)), cropping(), tokenizer)


def siglip(naflex: bool = False) -> Family:
    tokenizer = roberta_tokenizer()
    text = {**TEXT, "vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT, "projection_size": 24}
    if naflex:
        config = transformers.Siglip2Config(
            vision_config={**VISION, "patch_size": 4, "num_patches": 25}, text_config=text
        )
        image = transformers.Siglip2ImageProcessor(patch_size=4, max_num_patches=20)
        return build("Siglip2Model", config, image, tokenizer, "Siglip2Processor")
    config = transformers.SiglipConfig(vision_config={**VISION, "image_size": 30, "patch_size": 6}, text_config=text)
    return build("SiglipModel", config, squashing(SiglipImageProcessor, 30), tokenizer, "SiglipProcessor")


def long_clip() -> Family:
    """The port of Long-CLIP: ``CLIPModel`` with 248 positions."""
    tokenizer = clip_tokenizer()
    config = config_of("CLIPConfig", text={**ends(tokenizer), "max_position_embeddings": 248})
    return build("CLIPModel", config, cropping(), tokenizer)


def metaclip_2() -> Family:
    tokenizer = roberta_tokenizer()
    config = config_of("MetaClip2Config", text=ends(tokenizer))
    return build("MetaClip2Model", config, cropping(), tokenizer)


def tipsv2() -> Family:
    pieces = [*(f"▁{word}" for word in WORDS), *LETTERS, "▁"]
    vocabulary = {piece: row for row, piece in enumerate(dict.fromkeys(["<pad>", "<unk>", *pieces, ",", "!"]))}
    merges = []
    for word in WORDS:
        for length in range(1, len(word) + 1):
            left, right = ("▁" + word)[:length], word[length - 1]
            merges.append((left, right))
            vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = transformers.Tipsv2Tokenizer(
        vocab=vocabulary, merges=list(dict.fromkeys(merges)), model_max_length=CONTEXT
    )
    vision = {"num_register_tokens": 1, "mlp_ratio": 2}
    config = transformers.Tipsv2Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8, **vision},
        text_config={**TEXT, "max_position_embeddings": CONTEXT, "vocab_size": len(tokenizer), "hidden_size": 24},
    )
    image = squashing(transformers.Tipsv2ImageProcessor)
    return build("Tipsv2Model", config, image, tokenizer, "Tipsv2Processor")


def aimv2(native: bool = False) -> Family:
    tokenizer = clip_tokenizer()
    text = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    config = config_of("Aimv2Config", {"is_native": native}, text)
    return build("Aimv2Model", config, cropping(), tokenizer)


def clipseg() -> Family:
    tokenizer = clip_tokenizer()
    config = config_of("CLIPSegConfig", text=ends(tokenizer), extract_layers=[0, 1], reduce_dim=8)
    return build("CLIPSegModel", config, squashing(ViTImageProcessor, 40), tokenizer, "CLIPSegProcessor")


def clipseg_segmenter() -> Family:
    plain = clipseg()
    options = {"decoder_num_attention_heads": 2, "decoder_intermediate_size": 16}
    config = transformers.CLIPSegConfig(**{**plain.module.config.to_dict(), **options})
    module = randomized(lambda: transformers.CLIPSegForImageSegmentation(config))
    return Family(module, plain.processor, plain.tokenizer)


def chinese_clip() -> Family:
    tokenizer = bert_tokenizer("猫狗一只和的照片")
    text = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = config_of("ChineseCLIPConfig", text=text)
    return build("ChineseCLIPModel", config, cropping(ChineseCLIPImageProcessor), tokenizer, "ChineseCLIPProcessor")


def altclip() -> Family:
    tokenizer = roberta_tokenizer()
    text = {**ends(tokenizer), "max_position_embeddings": CONTEXT + 2, "project_dim": 16}
    config = config_of("AltCLIPConfig", text=text)
    return build("AltCLIPModel", config, cropping(), tokenizer, "AltCLIPProcessor")


def align() -> Family:
    tokenizer = bert_tokenizer()
    config = transformers.AlignConfig(
        vision_config={"image_size": 48, **ALIGN_SIZES},
        text_config={**TEXT, "max_position_embeddings": CONTEXT, "vocab_size": len(tokenizer)},
        projection_dim=24,
        temperature_init_value=0.05,
    )
    image = EfficientNetImageProcessor(
        size={"height": 58, "width": 58},
        crop_size={"height": 48, "width": 48},
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
    )
    family = build("AlignModel", config, image, tokenizer, "AlignProcessor")
    with torch.no_grad():
        for part in family.module.vision_model.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.mul_(2)  # else little of the image is left after the blocks
    return family


def blip() -> Family:
    tokenizer = bert_tokenizer()
    text = {"vocab_size": len(tokenizer), "encoder_hidden_size": 24, "pad_token_id": 0}
    config = config_of("BlipConfig", text=text, image_text_hidden_size=12)
    image = squashing(BlipImageProcessor)
    return build("BlipForImageTextRetrieval", config, image, tokenizer, "BlipProcessor")


def blip_2() -> Family:
    tokenizer = bert_tokenizer()
    former = {**TEXT, "vocab_size": len(tokenizer) + 1, "encoder_hidden_size": 24, "use_qformer_text_input": True}
    former |= {"pad_token_id": 0, "max_position_embeddings": CONTEXT, "cross_attention_frequency": 2}
    config = transformers.Blip2Config(
        vision_config={**VISION, "image_size": 32, "patch_size": 8},
        qformer_config=former,
        text_config={"model_type": "opt", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        num_query_tokens=5,
        image_text_hidden_size=12,
    )
    return build("Blip2ForImageTextRetrieval", config, squashing(BlipImageProcessor), tokenizer, "Blip2Processor")


def flava() -> Family:
    tokenizer = bert_tokenizer()
    config = transformers.FlavaConfig(
        image_config={**VISION, "image_size": 32, "patch_size": 8},
        text_config={**TEXT, "max_position_embeddings": CONTEXT, "vocab_size": len(tokenizer), "hidden_size": 24},
        multimodal_config={**VISION, "num_hidden_layers": 1},
        image_codebook_config={"hidden_size": 8, "num_blocks_per_group": 1, "vocab_size": 16},
        hidden_size=24,
        projection_dim=12,
    )
    image = squashing(FlavaImageProcessor, crop_size={"height": 32, "width": 32})
    return build("FlavaModel", config, image, tokenizer, "FlavaProcessor")


def flava_pretraining() -> Family:
    plain = flava()
    module = randomized(lambda: transformers.FlavaForPreTraining(plain.module.config))
    return Family(module, plain.processor, plain.tokenizer)


def groupvit() -> Family:
    tokenizer = clip_tokenizer()
    vision = {
        "depths": [3, 1, 1],
        "num_group_tokens": [6, 3, 0],
        "num_output_groups": [6, 3, 3],
        "num_hidden_layers": 5,
    }
    config = config_of("GroupViTConfig", vision, ends(tokenizer), projection_intermediate_dim=16)
    return build("GroupViTModel", config, cropping(), tokenizer)


def owlvit(version: int = 1, detector: bool = False) -> Family:
    tokenizer = clip_tokenizer(pad_token="!")
    name = "OwlViT" if version == 1 else "Owlv2"
    config = config_of(f"{name}Config", text=ends(tokenizer))
    image = squashing(OwlViTImageProcessor if version == 1 else Owlv2ImageProcessor)
    kind = "ForObjectDetection" if detector else "Model"
    return build(f"{name}{kind}", config, image, tokenizer, f"{name}Processor")


def vision_text(vision: str = "vit", text: str = "bert") -> Family:
    tokenizer = bert_tokenizer() if text == "bert" else roberta_tokenizer()
    places = {"max_position_embeddings": CONTEXT + (2 if text == "roberta" else 0), **ends(tokenizer)}
    visions = {
        "vit": transformers.ViTConfig,
        "clip": transformers.CLIPVisionConfig,
        "dinov2": transformers.Dinov2Config,
    }
    texts = {"bert": transformers.BertConfig, "roberta": transformers.RobertaConfig}
    config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
        visions[vision](**VISION, image_size=32, patch_size=8), texts[text](**TEXT, **places), projection_dim=12
    )
    image = cropping() if vision == "clip" else squashing(ViTImageProcessor)
    return build("VisionTextDualEncoderModel", config, image, tokenizer, "VisionTextDualEncoderProcessor")


def pair(name: str = "CLIP") -> Family:
    """An image model and a text model with their projections."""
    tokenizer = clip_tokenizer() if name == "CLIP" else roberta_tokenizer()
    image = {**VISION, "image_size": 32, "patch_size": 8, "projection_dim": 12}
    text = {**TEXT, "max_position_embeddings": CONTEXT, "projection_dim": 12, **ends(tokenizer)}
    parts = []
    for side, options in (("Vision", image), ("Text", text)):
        config = getattr(transformers, f"{name}{side}Config")(**options)
        parts.append(
            randomized(
                lambda side=side, config=config: getattr(transformers, f"{name}{side}ModelWithProjection")(config)
            )
        )
    return Family(tuple(parts), transformers.CLIPProcessor(cropping(), tokenizer), tokenizer)


FIRST: dict[str, Callable[[], Family]] = {
    "clip": clip,
    "siglip": siglip,
    "siglip 2 naflex": lambda: siglip(naflex=True),
}
"""Classes that the tests build in another way, too."""
FAMILIES: dict[str, Callable[[], Family]] = {
    "long clip": long_clip,
    "metaclip 2": metaclip_2,
    "tipsv2": tipsv2,
    "aimv2": aimv2,
    "aimv2 native": lambda: aimv2(native=True),
    "clipseg": clipseg,
    "clipseg segmenter": clipseg_segmenter,
    "chinese clip": chinese_clip,
    "altclip": altclip,
    "align": align,
    "blip": blip,
    "blip 2": blip_2,
    "flava": flava,
    "flava pretraining": flava_pretraining,
    "groupvit": groupvit,
    "owlvit": owlvit,
    "owlvit detector": lambda: owlvit(detector=True),
    "owlv2": lambda: owlvit(2),
    "owlv2 detector": lambda: owlvit(2, detector=True),
    "vit bert": vision_text,
    "vit roberta": lambda: vision_text("vit", "roberta"),
    "clip vision bert": lambda: vision_text("clip", "bert"),
    "dinov2 bert": lambda: vision_text("dinov2", "bert"),
    "clip pair": pair,
    "metaclip 2 pair": lambda: pair("MetaClip2"),
}
