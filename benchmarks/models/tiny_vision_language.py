"""Small vision-language models with their own processors: embedders of one vector, late interaction, and generators.

A builder returns what makes the model, so that its weights can be drawn by those who use it. Nothing here imports nibt.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AyaVisionConfig,
    AyaVisionForConditionalGeneration,
    AyaVisionProcessor,
    CLIPImageProcessor,
    Cohere2VisionConfig,
    Cohere2VisionForConditionalGeneration,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    ColModernVBertConfig,
    ColModernVBertForRetrieval,
    ColModernVBertProcessor,
    ColPaliConfig,
    ColPaliForRetrieval,
    ColPaliProcessor,
    ColQwen2Config,
    ColQwen2ForRetrieval,
    ColQwen2Processor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4VideoProcessor,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    Lfm2VlConfig,
    Lfm2VlForConditionalGeneration,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PerceptionLMConfig,
    PerceptionLMForConditionalGeneration,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5Tokenizer,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMoeConfig,
    Qwen3VLMoeForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    VipLlavaConfig,
    VipLlavaForConditionalGeneration,
)

WORDS = (
    "a photo of the two red cat s dog cats car cars and on small gray sleeping mat bird tree blue sky with"
).split()
_QWEN = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_IDEFICS = (
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    "<|begin_of_text|>",
    "<video>",
)
_ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
_PROMPT_WORDS = (
    "system user assistant User Assistant You are helpful Represent input Describe image Query Question . : '".split()
)
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{IMAGE}{% elif part['type'] == 'video' %}{VIDEO}{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_DECODER = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


@dataclass(frozen=True)
class Making:
    """What makes a model, its processor, and the options with which nibt loads it."""

    make: Callable[[], nn.Module]
    processor: Any
    options: dict[str, str] = field(default_factory=dict)


def tokenizer(special: tuple[str, ...], **named: Any) -> PreTrainedTokenizerFast:
    """Whole words; the tokens of the prompts are special."""
    known = ["<pad>", "<unk>", "<bos>", "<eos>", "\n", "\n\n", *_PROMPT_WORDS, *WORDS]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(dict.fromkeys(known))}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Whitespace()])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=core,
        model_max_length=256,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<bos>",
        eos_token="<eos>",
    )
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    for name, value in named.items():
        setattr(fast, name, value)
    return fast


def _qwen_chat() -> str:
    tokens = {"{IMAGE}": "<|image_pad|>", "{VIDEO}": "<|video_pad|>"}
    chat = _CHAT
    for place, token in tokens.items():
        chat = chat.replace(place, f"<|vision_start|>{token}<|vision_end|>")
    return chat


def _qwen_ids(words: PreTrainedTokenizerFast) -> dict[str, int]:
    names = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {name: words.convert_tokens_to_ids(token) for name, token in names.items()}


_QWEN_PIXELS: dict[str, Any] = {"patch_size": 8, "size": {"shortest_edge": 256, "longest_edge": 32 * 48}}
_QWEN_FRAMES: dict[str, Any] = {"patch_size": 8, "size": {"shortest_edge": 512, "longest_edge": 6 * 32 * 48}}
"""Qwen2-VL limits the pixels of a frame, its successors those of all frames."""


def _qwen2_config(words: PreTrainedTokenizerFast, kind: Any = Qwen2VLConfig) -> Any:
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2}
    if kind is Qwen2VLConfig:
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32, "window_size": 32}
        vision |= {"fullatt_block_indexes": [1]}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = {**_DECODER, "vocab_size": len(words), "rope_parameters": rope, "pad_token_id": words.pad_token_id}
    return kind(text_config=text, vision_config=vision, tie_word_embeddings=True, **_qwen_ids(words))


def qwen2_vl() -> Making:
    words = tokenizer(_QWEN)
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS), words, Qwen2VLVideoProcessor(**_QWEN_PIXELS), chat_template=_qwen_chat()
    )
    config = _qwen2_config(words)
    return Making(partial(Qwen2VLForConditionalGeneration, config), processor, {"pooling": "last"})


def qwen2_5_vl() -> Making:
    words = tokenizer(_QWEN)
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS), words, Qwen2VLVideoProcessor(**_QWEN_PIXELS), chat_template=_qwen_chat()
    )
    config = _qwen2_config(words, Qwen2_5_VLConfig)
    return Making(partial(Qwen2_5_VLForConditionalGeneration, config), processor, {"pooling": "last"})


def qwen3_vl(mixture: bool = False) -> Making:
    words = tokenizer(_QWEN)
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS), words, Qwen3VLVideoProcessor(**_QWEN_FRAMES), chat_template=_qwen_chat()
    )
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0, "mrope_interleaved": True}
    text = {**_DECODER, "vocab_size": len(words), "rope_parameters": rope, "head_dim": 8}
    text |= {"pad_token_id": words.pad_token_id}
    parts: dict[str, Any] = {"vision_config": vision, "tie_word_embeddings": True, **_qwen_ids(words)}
    if mixture:
        text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
        mixed = Qwen3VLMoeConfig(text_config=text, **parts)
        return Making(partial(Qwen3VLMoeForConditionalGeneration, mixed), processor)
    config = Qwen3VLConfig(text_config=text, **parts)
    return Making(partial(Qwen3VLForConditionalGeneration, config), processor, {"pooling": "last"})


def _letters() -> Qwen3_5Tokenizer:
    """Byte pairs that spell words from the left: a folder of Qwen3.5 is read with a tokenizer of this class."""
    starts = [start for word in dict.fromkeys([*_PROMPT_WORDS, *WORDS]) for start in (word, f"Ġ{word}")]
    merges = dict.fromkeys((start[:end], start[end]) for start in starts for end in range(1, len(start)))
    tokens = dict.fromkeys([*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)])
    words = Qwen3_5Tokenizer({token: number for number, token in enumerate(tokens)}, list(merges))
    words.add_special_tokens({"additional_special_tokens": list(_QWEN)})
    return words


def qwen3_5() -> Making:
    words = _letters()
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS), words, Qwen3VLVideoProcessor(**_QWEN_FRAMES), chat_template=_qwen_chat()
    )
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0, "mrope_interleaved": True}
    text = {**_DECODER, "vocab_size": len(words), "head_dim": 16, "pad_token_id": words.pad_token_id}
    text |= {"rope_parameters": {**rope, "partial_rotary_factor": 0.5}}
    text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    text |= {"linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
    config = Qwen3_5Config(text_config=text, vision_config=vision, **_qwen_ids(words))
    return Making(partial(Qwen3_5ForConditionalGeneration, config), processor)


_GLM = ("[gMASK]", "<sop>", "<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
_GLM = (*_GLM, "<|image|>", "<|video|>", "<|im_start|>", "<|im_end|>")


def glm4v() -> Making:
    words = tokenizer(_GLM)
    chat = "[gMASK]<sop>" + _CHAT.replace("{IMAGE}", "<|begin_of_image|><|image|><|end_of_image|>")
    chat = chat.replace("{VIDEO}", "<|begin_of_video|><|video|><|end_of_video|>")
    processor = Glm4vProcessor(
        Glm4vImageProcessor(**_QWEN_PIXELS), words, Glm4vVideoProcessor(**_QWEN_FRAMES), chat_template=chat
    )
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "image_size": 32}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
    text = {**_DECODER, "vocab_size": len(words), "rope_parameters": rope, "pad_token_id": words.pad_token_id}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    names = {"image": "<|image|>", "video": "<|video|>", "image_start": _GLM[2], "image_end": _GLM[3]}
    names |= {"video_start": _GLM[4], "video_end": _GLM[5]}
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in names.items()}
    config = Glm4vConfig(text_config=text, vision_config=vision, **ids)
    return Making(partial(Glm4vForConditionalGeneration, config), processor)


def _tiles_config(kind: Any, words: PreTrainedTokenizerFast) -> Any:
    """Return a configuration whose images are divided into tiles of 32 pixels."""
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    text = {**_DECODER, "model_type": "llama", "vocab_size": len(words), "pad_token_id": words.pad_token_id}
    image_token = words.convert_tokens_to_ids("<image>")
    return kind(text_config=text, vision_config=vision, scale_factor=2, image_token_id=image_token)


_TILES: dict[str, Any] = {
    "size": {"longest_edge": 64},
    "max_image_size": {"longest_edge": 32},
    "do_image_splitting": True,
}
_TILES_CHAT = (
    _CHAT.replace("{IMAGE}", "<image>").replace("<|im_start|>", "").replace("<|im_end|>", "<end_of_utterance>")
)


def smolvlm() -> Making:
    words = tokenizer((*_IDEFICS, *_ROWS), fake_image_token=_IDEFICS[0], image_token=_IDEFICS[1])
    words.image_token_id = words.convert_tokens_to_ids("<image>")
    words.end_of_utterance_token, words.global_image_token = _IDEFICS[2], _IDEFICS[3]
    words.video_token = "<video>"
    images = SmolVLMImageProcessor(**_TILES)
    processor = SmolVLMProcessor(images, words, SmolVLMVideoProcessor(), image_seq_len=4, chat_template=_TILES_CHAT)
    config = _tiles_config(SmolVLMConfig, words)
    return Making(partial(SmolVLMForConditionalGeneration, config), processor, {"pooling": "last"})


def idefics3() -> Making:
    words = tokenizer((*_IDEFICS, *_ROWS))
    processor = Idefics3Processor(Idefics3ImageProcessor(**_TILES), words, image_seq_len=4, chat_template=_TILES_CHAT)
    config = _tiles_config(Idefics3Config, words)
    return Making(partial(Idefics3ForConditionalGeneration, config), processor, {"pooling": "last"})


def _paligemma_config(words: PreTrainedTokenizerFast) -> PaliGemmaConfig:
    vision = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "vision_use_head": False}
    text = {**_DECODER, "model_type": "gemma", "vocab_size": len(words), "head_dim": 8}
    text |= {"pad_token_id": words.pad_token_id}
    return PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        projection_dim=32,
        hidden_size=32,
        vocab_size=len(words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )


def _siglip_images() -> SiglipImageProcessor:
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    return images


def paligemma() -> Making:
    words = tokenizer(("<image>",))
    processor = PaliGemmaProcessor(_siglip_images(), words)
    config = _paligemma_config(words)
    prompts = {"image_prompt": "<image>Describe the image", "text_prompt": "Represent {text}"}
    return Making(partial(PaliGemmaForConditionalGeneration, config), processor, {"pooling": "last", **prompts})


def colpali() -> Making:
    words = tokenizer(("<image>",))
    processor = ColPaliProcessor(_siglip_images(), words)
    config = ColPaliConfig(vlm_config=_paligemma_config(words), embedding_dim=12)
    return Making(partial(ColPaliForRetrieval, config), processor)


def colqwen2(kind: Any = Qwen2VLConfig) -> Making:
    words = tokenizer(_QWEN)
    processor = ColQwen2Processor(Qwen2VLImageProcessor(**_QWEN_PIXELS), words)
    config = ColQwen2Config(vlm_config=_qwen2_config(words, kind), embedding_dim=12)
    return Making(partial(ColQwen2ForRetrieval, config), processor)


def colqwen2_5() -> Making:
    return colqwen2(Qwen2_5_VLConfig)


def colmodernvbert() -> Making:
    words = tokenizer((*_IDEFICS, *_ROWS))
    images = Idefics3ImageProcessor(**_TILES)
    processor = ColModernVBertProcessor(images, words, image_seq_len=4)
    vision = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8, "vision_use_head": False}
    text = {**_DECODER, "model_type": "modernbert", "vocab_size": len(words), "pad_token_id": words.pad_token_id}
    text |= {"local_attention": 16, "global_attn_every_n_layers": 2}
    vlm = {"model_type": "modernvbert", "vision_config": vision, "text_config": text, "pixel_shuffle_factor": 2}
    vlm |= {"image_token_id": processor.image_token_id}
    config = ColModernVBertConfig(vlm_config=vlm, embedding_dim=12)
    return Making(partial(ColModernVBertForRetrieval, config), processor)


_CLIP = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
_CLIP |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 8}


_LLAVA = ("<image>", "<video>", "<|im_start|>", "<|im_end|>")
_PINPOINTS = [[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]]


def _llava_text(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {**_DECODER, "model_type": "llama", "vocab_size": len(words), "pad_token_id": words.pad_token_id}


def llava(strategy: str = "default", vision: dict[str, Any] | None = None, special: int = 1) -> Making:
    """Return LLaVA. The strategy ``full`` keeps the special tokens of the vision encoder."""
    words = tokenizer(_LLAVA)
    vision = vision or _CLIP
    side = vision["image_size"]
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    processor = LlavaProcessor(
        images,
        words,
        patch_size=8,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=special,
        chat_template=_CHAT.replace("{IMAGE}", "<image>"),
    )
    image_token = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(
        vision_config=vision,
        text_config=_llava_text(words),
        image_token_id=image_token,
        vision_feature_select_strategy=strategy,
    )
    return Making(partial(LlavaForConditionalGeneration, config), processor)


def vipllava() -> Making:
    plain = llava()
    words = plain.processor.tokenizer
    config = VipLlavaConfig(
        vision_config=_CLIP,
        text_config=_llava_text(words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_layers=[-1, -2, 1],
    )
    return Making(partial(VipLlavaForConditionalGeneration, config), plain.processor)


def llava_next(video: bool = False) -> Making:
    words = tokenizer(_LLAVA)
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=_PINPOINTS
    )
    reading: dict[str, Any] = {"patch_size": 8, "vision_feature_select_strategy": "default"}
    chat = _CHAT.replace("{IMAGE}", "<image>").replace("{VIDEO}", "<video>")
    reading |= {"num_additional_image_tokens": 1, "chat_template": chat}
    parts: dict[str, Any] = {"vision_config": _CLIP, "text_config": _llava_text(words)}
    parts |= {"image_grid_pinpoints": _PINPOINTS, "image_token_index": words.convert_tokens_to_ids("<image>")}
    if video:
        frames = LlavaNextVideoVideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        processor = LlavaNextVideoProcessor(frames, images, words, **reading)
        config = LlavaNextVideoConfig(**parts, video_token_index=words.convert_tokens_to_ids("<video>"))
        return Making(partial(LlavaNextVideoForConditionalGeneration, config), processor)
    config = LlavaNextConfig(**parts)
    return Making(partial(LlavaNextForConditionalGeneration, config), LlavaNextProcessor(images, words, **reading))


_PIXTRAL = ("[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<|im_start|>", "<|im_end|>")


def _pixtral_processor(words: PreTrainedTokenizerFast, merge: int) -> PixtralProcessor:
    images = PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 8, "width": 8})
    chat = _CHAT.replace("{IMAGE}", "[IMG]")
    return PixtralProcessor(images, words, patch_size=8, spatial_merge_size=merge, chat_template=chat)


_PIXTRAL_VISION = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
_PIXTRAL_VISION |= {"num_attention_heads": 2, "head_dim": 8, "image_size": 64, "patch_size": 8}


def mistral3() -> Making:
    words = tokenizer(_PIXTRAL)
    text = {**_llava_text(words), "model_type": "mistral", "head_dim": 8, "sliding_window": None}
    config = Mistral3Config(
        vision_config=_PIXTRAL_VISION,
        text_config=text,
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    return Making(partial(Mistral3ForConditionalGeneration, config), _pixtral_processor(words, 2))


def pixtral() -> Making:
    words = tokenizer(_PIXTRAL)
    config = LlavaConfig(
        vision_config=_PIXTRAL_VISION,
        text_config={**_llava_text(words), "model_type": "mistral", "head_dim": 8},
        image_token_id=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    return Making(partial(LlavaForConditionalGeneration, config), _pixtral_processor(words, 1))


_SIGLIP = {**_CLIP, "model_type": "siglip_vision_model", "num_hidden_layers": 2, "vision_use_head": False}


def _cohere_text(words: PreTrainedTokenizerFast) -> dict[str, Any]:
    layers = {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"] * 2}
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    return {**_llava_text(words), "model_type": "cohere2", **layers, **ids}


def aya_vision() -> Making:
    names = ("<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL", "<image>")
    words = tokenizer((*names, *(f"TILE_{number}" for number in range(1, 7)), "<|im_start|>", "<|im_end|>"))
    processor = AyaVisionProcessor(
        GotOcr2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=6),
        words,
        patch_size=8,
        img_size=32,
        downsample_factor=2,
        chat_template=_CHAT.replace("{IMAGE}", "<image>"),
        start_of_img_token=names[0],
        end_of_img_token=names[1],
    )
    config = AyaVisionConfig(
        vision_config=_SIGLIP, text_config=_cohere_text(words), image_token_index=processor.image_token_id
    )
    return Making(partial(AyaVisionForConditionalGeneration, config), processor)


def cohere2_vision() -> Making:
    names = {"image": "<|IMG_PATCH|>", "boi": "<|START_OF_IMG|>", "eoi": "<|END_OF_IMG|>"}
    names |= {"img_line_break": "<|IMG_LINE_BREAK|>"}
    words = tokenizer((*names.values(), "<|im_start|>", "<|im_end|>"))
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in names.items()})
    images = Cohere2VisionImageProcessor(size={"height": 32, "width": 32}, patch_size=2, max_patches=6)
    processor = Cohere2VisionProcessor(images, words, chat_template=_CHAT.replace("{IMAGE}", names["image"]))
    config = Cohere2VisionConfig(
        vision_config=_SIGLIP,
        text_config=_cohere_text(words),
        image_token_id=processor.image_token_id,
        alignment_intermediate_size=48,
    )
    return Making(partial(Cohere2VisionForConditionalGeneration, config), processor)


def llava_onevision(most: int = 9) -> Making:
    words = tokenizer(_LLAVA)
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size={"height": 32, "width": 32}, image_grid_pinpoints=_PINPOINTS),
        words,
        LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=_CHAT.replace("{IMAGE}", "<image>").replace("{VIDEO}", "<video>"),
        vision_aspect_ratio=f"anyres_max_{most}",
    )
    vision = {**_CLIP, "model_type": "siglip_vision_model", "vision_use_head": False}
    config = LlavaOnevisionConfig(
        vision_config=vision,
        text_config=_llava_text(words),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=_PINPOINTS,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=f"anyres_max_{most}",
    )
    return Making(partial(LlavaOnevisionForConditionalGeneration, config), processor)


def internvl() -> Making:
    names = {"start_image": "<img>", "end_image": "</img>", "context_image": "<IMG_CONTEXT>", "video": "<video>"}
    words = tokenizer((*names.values(), "<|im_start|>", "<|im_end|>"))
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in names.items()})
    images = GotOcr2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=6)
    chat = _CHAT.replace("{IMAGE}", names["context_image"] + "\n")
    processor = InternVLProcessor(images, words, InternVLVideoProcessor(), image_seq_length=4, chat_template=chat)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": [32, 32], "patch_size": [8, 8]}
    config = InternVLConfig(
        vision_config=vision, text_config=_llava_text(words), image_token_id=words.context_image_token_id
    )
    return Making(partial(InternVLForConditionalGeneration, config), processor)


def perception_lm() -> Making:
    words = tokenizer(_LLAVA)
    words._set_model_specific_special_tokens({"image_token": "<image>", "video_token": "<video>"})
    processor = PerceptionLMProcessor(
        PerceptionLMVideoProcessor(size={"height": 32, "width": 32}),
        PerceptionLMImageProcessor(tile_size=32, max_num_tiles=6),
        words,
        patch_size=8,
        pooling_ratio=2,
        chat_template=_CHAT.replace("{IMAGE}", "<image>"),
    )
    sizes = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": [32, 32], "patch_size": 8}
    sizes |= {"global_pool": "", "use_post_transformer_norm": False, "ref_feat_shape": [4, 4], "init_values": 0.1}
    vision = {"model_type": "timm_wrapper", "architecture": "vit_pe_core_large_patch14_336", "model_args": sizes}
    config = PerceptionLMConfig(
        vision_config=vision,
        text_config=_llava_text(words),
        projector_pooling_ratio=2,
        image_token_id=words.image_token_id,
        video_token_id=words.video_token_id,
    )
    return Making(partial(PerceptionLMForConditionalGeneration, config), processor)


def _gemma3_model(config: Gemma3Config) -> Gemma3ForConditionalGeneration:
    """Return a model that sees the image: the projection of a new one is zero."""
    model = Gemma3ForConditionalGeneration(config)
    nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.3)
    return model


def gemma3() -> Making:
    special = ("<image_soft_token>", "<start_of_image>", "<end_of_image>", "<|im_start|>", "<|im_end|>")
    words = tokenizer(special)
    words._set_model_specific_special_tokens(
        {f"{name}_token": token for name, token in zip(("image", "boi", "eoi"), special, strict=False)}
    )
    chat = _CHAT.replace("{IMAGE}", "<start_of_image>")
    images = Gemma3ImageProcessor(size={"height": 64, "width": 64})
    processor = Gemma3Processor(images, words, chat_template=chat, image_seq_length=16)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 64, "patch_size": 8, "vision_use_head": False}
    text = {**_DECODER, "vocab_size": len(words), "pad_token_id": words.pad_token_id, "head_dim": 8}
    text |= {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention"] * 2}
    ids = {f"{name}_token_id": getattr(words, f"{name}_token_id") for name in ("image", "boi", "eoi")}
    renamed = {"boi_token_index": ids["boi_token_id"], "eoi_token_index": ids["eoi_token_id"]}
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=16, image_token_id=ids["image_token_id"], **renamed
    )
    return Making(partial(_gemma3_model, config), processor)


_GEMMA4 = {"image": "<|image|>", "boi": "<|image>", "eoi": "<image|>", "audio": "<|audio|>"}
_GEMMA4 |= {"boa": "<|audio>", "eoa": "<audio|>"}


def gemma4(**changes: Any) -> Making:
    words = tokenizer((*_GEMMA4.values(), "<|im_start|>", "<|im_end|>"))
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in _GEMMA4.items()})
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(),
        Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70),
        words,
        Gemma4VideoProcessor(patch_size=4, max_soft_tokens=70),
        chat_template=_CHAT.replace("{IMAGE}", _GEMMA4["image"]),
    )
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"num_key_value_heads": 2, "head_dim": 8, "patch_size": 4, "position_embedding_size": 80}
    text = {**_DECODER, "vocab_size": len(words), "pad_token_id": words.pad_token_id, "head_dim": 8}
    text |= {"global_head_dim": 8, "hidden_size_per_layer_input": 0, "use_bidirectional_attention": "vision"}
    text |= {"sliding_window": 100, "layer_types": ["sliding_attention", "full_attention"] * 2}
    text |= {"vocab_size_per_layer_input": len(words), "final_logit_softcapping": 30.0, **changes}
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in _GEMMA4.items()}
    ids["eoa_token_index"] = ids.pop("eoa_token_id")
    ids["video_token_id"] = processor.video_token_id
    config = Gemma4Config(text_config=text, vision_config=vision, **ids)
    return Making(partial(Gemma4ForConditionalGeneration, config), processor)


def lfm2_vl(tolerance: float = 1.0) -> Making:
    marks = [f"<|img_row_{row}_col_{column}|>" for row in range(1, 7) for column in range(1, 7)]
    marks += ["<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    words = tokenizer(("<image>", *marks, "<|im_start|>", "<|im_end|>"))
    sizes: dict[str, Any] = {"tile_size": 32, "encoder_patch_size": 8, "max_tiles": 6, "min_image_tokens": 4}
    images = Lfm2VlImageProcessor(**sizes, max_image_tokens=8, max_pixels_tolerance=tolerance)
    processor = Lfm2VlProcessor(images, words, chat_template=_CHAT.replace("{IMAGE}", "<image>"))
    vision = {"model_type": "siglip2_vision_model", "hidden_size": 16, "intermediate_size": 24, "patch_size": 8}
    vision |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_patches": 16, "vision_use_head": False}
    text = {**_llava_text(words), "model_type": "lfm2", "layer_types": ["conv", "full_attention"] * 2}
    text |= {"block_multiple_of": 8}
    ids = {"image_token_id": processor.image_token_id, "tie_word_embeddings": False}
    config = Lfm2VlConfig(vision_config=vision, text_config=text, projector_hidden_size=24, **ids)
    return Making(partial(Lfm2VlForConditionalGeneration, config), processor)


EMBEDDERS = {
    "qwen2_vl": qwen2_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "paligemma": paligemma,
}
LATE = {"colpali": colpali, "colqwen2": colqwen2, "colqwen2_5": colqwen2_5, "colmodernvbert": colmodernvbert}
GENERATORS = {
    "llava": llava,
    "llava_next": llava_next,
    "llava_onevision": llava_onevision,
    "llava_onevision_1": partial(llava_onevision, most=1),
    "internvl": internvl,
    "gemma3": gemma3,
    "qwen3_vl_moe": partial(qwen3_vl, mixture=True),
    "qwen3_5": qwen3_5,
    "glm4v": glm4v,
    "vipllava": vipllava,
    "llava_next_video": partial(llava_next, video=True),
    "mistral3": mistral3,
    "pixtral": pixtral,
    "aya_vision": aya_vision,
    "cohere2_vision": cohere2_vision,
    "perception_lm": perception_lm,
    "gemma4": gemma4,
    "lfm2_vl": lfm2_vl,
    "lfm2_vl_whole": partial(lfm2_vl, tolerance=9.0),
}
