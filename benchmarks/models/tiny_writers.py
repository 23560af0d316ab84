"""Small generators of further classes, with their own processors: chat models of phones and clinics, and page readers.

Nothing here imports nibt.
"""

from functools import partial
from typing import Any

from transformers import (
    AriaConfig,
    AriaForConditionalGeneration,
    AriaImageProcessor,
    AriaProcessor,
    DeepseekVLConfig,
    DeepseekVLForConditionalGeneration,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    DonutImageProcessor,
    DonutProcessor,
    DonutSwinConfig,
    FastVlmConfig,
    FastVlmForConditionalGeneration,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nForConditionalGeneration,
    Gemma3nProcessor,
    Glm4vImageProcessor,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VConfig,
    Glm46VForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    GlmOcrConfig,
    GlmOcrForConditionalGeneration,
    GotOcr2Config,
    GotOcr2ForConditionalGeneration,
    GotOcr2ImageProcessor,
    GotOcr2Processor,
    Idefics2Config,
    Idefics2ForConditionalGeneration,
    Idefics2ImageProcessor,
    Idefics2Processor,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    Kosmos2_5Config,
    Kosmos2_5ForConditionalGeneration,
    Kosmos2_5ImageProcessor,
    Kosmos2_5Processor,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    LightOnOcrConfig,
    LightOnOcrForConditionalGeneration,
    LightOnOcrProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    MBartConfig,
    MllamaConfig,
    MllamaForConditionalGeneration,
    MllamaImageProcessor,
    MllamaProcessor,
    Molmo2Config,
    Molmo2ForConditionalGeneration,
    Molmo2ImageProcessor,
    Molmo2Processor,
    Molmo2VideoProcessor,
    NougatImageProcessor,
    NougatProcessor,
    Ovis2Config,
    Ovis2ForConditionalGeneration,
    Ovis2ImageProcessor,
    Ovis2Processor,
    PaddleOCRVLConfig,
    PaddleOCRVLForConditionalGeneration,
    PaddleOCRVLImageProcessor,
    PaddleOCRVLProcessor,
    Pix2StructConfig,
    Pix2StructForConditionalGeneration,
    Pix2StructImageProcessor,
    Pix2StructProcessor,
    PixtralImageProcessor,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5MoeConfig,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    WhisperFeatureExtractor,
)

from .tiny_vision_language import (
    _CHAT,
    _CLIP,
    _DECODER,
    _GLM,
    _LLAVA,
    _PIXTRAL_VISION,
    _QWEN,
    _QWEN_FRAMES,
    _QWEN_PIXELS,
    _SIGLIP,
    Making,
    _letters,
    _llava_text,
    _qwen_chat,
    _qwen_ids,
    gemma4,
    llava,
    tokenizer,
)

_ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
_GLM_IDS = {"image": "<|image|>", "video": "<|video|>", "image_start": _GLM[2], "image_end": _GLM[3]}
_GLM_IDS |= {"video_start": _GLM[4], "video_end": _GLM[5]}


def gemma4_per_layer() -> Making:
    """Return Gemma 4 as it is made for phones: with inputs of each layer, and layers that share keys and values."""
    return gemma4(hidden_size_per_layer_input=12, num_kv_shared_layers=2)


_GEMMA3N = {"image": "<image_soft_token>", "boi": "<start_of_image>", "eoi": "<end_of_image>"}
_GEMMA3N |= {"audio": "<audio_soft_token>", "boa": "<start_of_audio>", "eoa": "<end_of_audio>"}


def gemma3n() -> Making:
    """Return Gemma 3n, whose image encoder of timm is a small one; ids of images and audio are after those of words."""
    words = tokenizer(("<|im_start|>", "<|im_end|>", *_GEMMA3N.values()))
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in _GEMMA3N.items()})
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in _GEMMA3N.items()}
    images = SiglipImageProcessor(size={"height": 128, "width": 128})
    processor = Gemma3nProcessor(
        Gemma3nAudioFeatureExtractor(),
        images,
        words,
        chat_template=_CHAT.replace("{IMAGE}", _GEMMA3N["image"]),
        image_seq_length=16,
    )
    count = len(words)
    text = {**_DECODER, "vocab_size": count, "pad_token_id": words.pad_token_id, "head_dim": 8, "laurel_rank": 4}
    text |= {"vocab_size_per_layer_input": count - 6, "hidden_size_per_layer_input": 12, "num_kv_shared_layers": 2}
    text |= {"sliding_window": 100, "layer_types": ["sliding_attention", "full_attention"] * 2}
    text |= {"intermediate_size": [40] * 4, "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0]}
    vision = {"model_type": "gemma3n_vision", "architecture": "test_convnext", "hidden_size": 64, "vocab_size": 3}
    vision |= {"vocab_offset": count - 6}
    audio = {"hidden_size": 16, "vocab_size": 3, "vocab_offset": count - 3, "conf_num_hidden_layers": 1}
    audio |= {"conf_num_attention_heads": 2, "sscp_conv_channel_size": [8, 4]}
    config = Gemma3nConfig(
        text_config=text, vision_config=vision, audio_config=audio, vision_soft_tokens_per_image=16, **ids
    )
    return Making(partial(Gemma3nForConditionalGeneration, config), processor)


def qwen3_5_moe() -> Making:
    words = _letters()
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS), words, Qwen3VLVideoProcessor(**_QWEN_FRAMES), chat_template=_qwen_chat()
    )
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16}
    text = {**_DECODER, "vocab_size": len(words), "head_dim": 16, "pad_token_id": words.pad_token_id}
    text |= {"rope_parameters": {**_ROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.5}}
    text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    text |= {"linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"] * 2}
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    text |= {"shared_expert_intermediate_size": 24}
    config = Qwen3_5MoeConfig(text_config=text, vision_config=vision, **_qwen_ids(words))
    return Making(partial(Qwen3_5MoeForConditionalGeneration, config), processor)


_OMNI = (*_QWEN, "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
_OMNI_NAMES = {"image": "<|image_pad|>", "video": "<|video_pad|>", "audio": "<|AUDIO|>", "audio_bos": "<|audio_bos|>"}
_OMNI_NAMES |= {"audio_eos": "<|audio_eos|>", "vision_bos": "<|vision_start|>", "vision_eos": "<|vision_end|>"}
_AUDIO = {"num_mel_bins": 16, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "d_model": 16}
_AUDIO |= {"output_dim": 32, "max_source_positions": 100}


def _omni_words() -> Any:
    words = tokenizer(_OMNI)
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in _OMNI_NAMES.items()})
    return words


def qwen2_5_omni() -> Making:
    words = _omni_words()
    processor = Qwen2_5OmniProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS),
        Qwen2VLVideoProcessor(**_QWEN_PIXELS),
        WhisperFeatureExtractor(),
        words,
        chat_template=_qwen_chat(),
    )
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "window_size": 32, "fullatt_block_indexes": [1]}
    text = {**_DECODER, "vocab_size": len(words), "rope_parameters": _ROPE, "pad_token_id": words.pad_token_id}
    ids = {
        f"{name}_token_index": words.convert_tokens_to_ids(_OMNI_NAMES[name]) for name in ("image", "video", "audio")
    }
    config = Qwen2_5OmniThinkerConfig(
        text_config=text,
        vision_config=vision,
        audio_config=_AUDIO,
        audio_start_token_id=words.convert_tokens_to_ids("<|audio_bos|>"),
        audio_end_token_id=words.convert_tokens_to_ids("<|audio_eos|>"),
        vision_start_token_id=words.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=words.convert_tokens_to_ids("<|vision_end|>"),
        **ids,
    )
    return Making(partial(Qwen2_5OmniThinkerForConditionalGeneration, config), processor)


def qwen3_omni() -> Making:
    words = _omni_words()
    processor = Qwen3OmniMoeProcessor(
        Qwen2VLImageProcessor(**_QWEN_PIXELS),
        Qwen2VLVideoProcessor(**_QWEN_PIXELS),
        WhisperFeatureExtractor(),
        words,
        chat_template=_qwen_chat(),
    )
    vision = {"depth": 3, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    text = {**_DECODER, "vocab_size": len(words), "head_dim": 8, "pad_token_id": words.pad_token_id}
    text |= {"rope_parameters": {**_ROPE, "mrope_interleaved": True}}
    text |= {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(_OMNI_NAMES[name]) for name in ("image", "video", "audio")}
    config = Qwen3OmniMoeThinkerConfig(
        text_config=text,
        vision_config=vision,
        audio_config={**_AUDIO, "downsample_hidden_size": 8},
        audio_start_token_id=words.convert_tokens_to_ids("<|audio_bos|>"),
        vision_start_token_id=words.convert_tokens_to_ids("<|vision_start|>"),
        **ids,
    )
    return Making(partial(Qwen3OmniMoeThinkerForConditionalGeneration, config), processor)


def _glm_parts(words: Any, text: dict[str, Any]) -> dict[str, Any]:
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 8}
    vision |= {"out_hidden_size": 32, "image_size": 32}
    own = {**_DECODER, "vocab_size": len(words), "pad_token_id": words.pad_token_id}
    own |= {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}
    own |= {"num_attention_heads": 2, "num_key_value_heads": 1, **text}
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in _GLM_IDS.items()}
    return {"text_config": own, "vision_config": vision, **ids}


def _glm_chat() -> str:
    chat = "[gMASK]<sop>" + _CHAT.replace("{IMAGE}", "<|begin_of_image|><|image|><|end_of_image|>")
    return chat.replace("{VIDEO}", "<|begin_of_video|><|video|><|end_of_video|>")


def glm4v_moe() -> Making:
    words = tokenizer(_GLM)
    processor = Glm4vProcessor(
        Glm4vImageProcessor(**_QWEN_PIXELS), words, Glm4vVideoProcessor(**_QWEN_FRAMES), chat_template=_glm_chat()
    )
    text = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
    config = Glm4vMoeConfig(**_glm_parts(words, text))
    return Making(partial(Glm4vMoeForConditionalGeneration, config), processor)


def glm46v() -> Making:
    words = tokenizer(_GLM)
    processor = Glm46VProcessor(
        Glm46VImageProcessor(**_QWEN_PIXELS), words, Glm46VVideoProcessor(**_QWEN_FRAMES), chat_template=_glm_chat()
    )
    parts = _glm_parts(words, {"model_type": "glm4v_text"})
    parts["vision_config"]["model_type"] = "glm4v_vision"
    return Making(partial(Glm46VForConditionalGeneration, Glm46VConfig(**parts)), processor)


def glm_ocr() -> Making:
    words = tokenizer(_GLM)
    processor = Glm46VProcessor(
        Glm46VImageProcessor(**_QWEN_PIXELS), words, Glm46VVideoProcessor(**_QWEN_FRAMES), chat_template=_glm_chat()
    )
    config = GlmOcrConfig(**_glm_parts(words, {}))
    return Making(partial(GlmOcrForConditionalGeneration, config), processor)


def paddleocr_vl() -> Making:
    words = tokenizer(("<|IMAGE_START|>", "<|IMAGE_PLACEHOLDER|>", "<|IMAGE_END|>", "<|im_start|>", "<|im_end|>"))
    words._set_model_specific_special_tokens({"image_token": "<|IMAGE_PLACEHOLDER|>"})
    chat = _CHAT.replace("{IMAGE}", "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>")
    processor = PaddleOCRVLProcessor(PaddleOCRVLImageProcessor(**_QWEN_PIXELS), words, chat_template=chat)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    text = {**_DECODER, "vocab_size": len(words), "head_dim": 8, "rope_parameters": _ROPE}
    text |= {"pad_token_id": words.pad_token_id}
    names = {"image": "<|IMAGE_PLACEHOLDER|>", "vision_start": "<|IMAGE_START|>", "vision_end": "<|IMAGE_END|>"}
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in names.items()}
    config = PaddleOCRVLConfig(text_config=text, vision_config=vision, video_token_id=len(words) + 1, **ids)
    return Making(partial(PaddleOCRVLForConditionalGeneration, config), processor)


def _image_words() -> Any:
    words = tokenizer(("<image_placeholder>", "<begin_of_image>", "<end_of_image>", "<|im_start|>", "<|im_end|>"))
    names = {"image": "<image_placeholder>", "boi": "<begin_of_image>", "eoi": "<end_of_image>"}
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in names.items()})
    return words


def deepseek_vl() -> Making:
    words = _image_words()
    images = DeepseekVLImageProcessor(size={"height": 32, "width": 32}, min_size=8)
    chat = _CHAT.replace("{IMAGE}", "<image_placeholder>")
    processor = DeepseekVLProcessor(images, words, chat_template=chat, num_image_tokens=16)
    config = DeepseekVLConfig(
        vision_config=_SIGLIP, text_config=_llava_text(words), image_token_id=words.image_token_id
    )
    return Making(partial(DeepseekVLForConditionalGeneration, config), processor)


def janus() -> Making:
    words = _image_words()
    images = JanusImageProcessor(size={"height": 32, "width": 32}, min_size=8)
    chat = _CHAT.replace("{IMAGE}", "<image_placeholder>")
    processor = JanusProcessor(images, words, chat_template=chat, num_image_tokens=16)
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    vision |= {"mlp_ratio": 2.0, "projection_dim": 32, "num_image_tokens": 16}
    drawn = {"embed_dim": 4, "num_embeddings": 8, "latent_channels": 8, "base_channels": 32, "projection_dim": 32}
    drawn |= {"channel_multiplier": [1, 1], "num_res_blocks": 1, "image_token_embed_dim": 32, "num_patches": 4}
    config = JanusConfig(
        vision_config=vision, vq_config=drawn, text_config=_llava_text(words), image_token_id=words.image_token_id
    )
    return Making(partial(JanusForConditionalGeneration, config), processor)


def fast_vlm() -> Making:
    words = tokenizer(_LLAVA)
    images = llava().processor.image_processor.__class__(
        size={"shortest_edge": 128}, crop_size={"height": 128, "width": 128}
    )
    chat = _CHAT.replace("{IMAGE}", "<image>")
    processor = LlavaProcessor(images, words, patch_size=32, vision_feature_select_strategy="full", chat_template=chat)
    vision = {"model_type": "timm_wrapper", "architecture": "test_convnext", "num_classes": 0, "do_pooling": True}
    config = FastVlmConfig(
        vision_config={**vision, "hidden_size": 64},
        text_config={**_llava_text(words), "model_type": "qwen2"},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    return Making(partial(FastVlmForConditionalGeneration, config), processor)


def llava_gemma2() -> Making:
    """Return LLaVA on a decoder that caps its logits and attention."""
    plain = llava()
    words = plain.processor.tokenizer
    text = {**_llava_text(words), "model_type": "gemma2", "head_dim": 8, "sliding_window": 24}
    text |= {"layer_types": ["sliding_attention", "full_attention"] * 2}
    config = LlavaConfig(vision_config=_CLIP, text_config=text, image_token_id=words.convert_tokens_to_ids("<image>"))
    return Making(partial(LlavaForConditionalGeneration, config), plain.processor)


def lighton_ocr() -> Making:
    names = {"image": "<|image_pad|>", "image_break": "<|vision_pad|>", "image_end": "<|vision_end|>"}
    words = tokenizer((*names.values(), "<|im_start|>", "<|im_end|>"))
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in names.items()})
    images = PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 16, "width": 16})
    chat = _CHAT.replace("{IMAGE}", "<|image_pad|>")
    processor = LightOnOcrProcessor(images, words, patch_size=8, spatial_merge_size=2, chat_template=chat)
    config = LightOnOcrConfig(
        vision_config=_PIXTRAL_VISION,
        text_config={**_llava_text(words), "model_type": "qwen3", "head_dim": 8, "intermediate_size": 48},
        image_token_id=words.image_token_id,
    )
    return Making(partial(LightOnOcrForConditionalGeneration, config), processor)


def got_ocr2() -> Making:
    """Return GOT-OCR 2, whose processor gives 256 tokens for each tile, and builds the prompt without a template."""
    words = tokenizer(("<img>", "</img>", "<imgpad>", "<|im_start|>", "<|im_end|>"))
    images = GotOcr2ImageProcessor(size={"height": 256, "width": 256})
    processor = GotOcr2Processor(images, words)
    vision = {"hidden_size": 16, "output_channels": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 256, "patch_size": 4, "window_size": 8, "global_attn_indexes": [], "mlp_dim": 24}
    config = GotOcr2Config(
        vision_config=vision,
        text_config={**_llava_text(words), "model_type": "qwen2", "max_position_embeddings": 512},
        image_token_id=processor.image_token_id,
    )
    return Making(partial(GotOcr2ForConditionalGeneration, config), processor)


_OVIS = ("<image>", "<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")


def ovis2(most: int = 6) -> Making:
    words = tokenizer((*_OVIS, "<|im_start|>", "<|im_end|>"))
    images = Ovis2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=most > 1, max_patches=most)
    processor = Ovis2Processor(images, words, chat_template=_CHAT.replace("{IMAGE}", "<image>"), image_seq_length=4)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8, "hidden_stride": 2, "vocab_size": 32}
    config = Ovis2Config(
        vision_config=vision,
        text_config={**_llava_text(words), "model_type": "qwen2", "intermediate_size": 48},
        hidden_size=32,
        vocab_size=len(words),
        image_token_id=words.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=[words.convert_tokens_to_ids(token) for token in _OVIS[2:]],
    )
    return Making(partial(Ovis2ForConditionalGeneration, config), processor)


_MOLMO2 = ("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>", "<im_end>", "<frame_end>")
_MOLMO2 = (*_MOLMO2, "<im_low>", "<|image|>", "<|video|>", "<|im_start|>", "<|im_end|>")


def molmo2() -> Making:
    words = tokenizer(_MOLMO2)
    sizes: dict[str, Any] = {"size": {"height": 64, "width": 64}, "patch_size": 8}
    processor = Molmo2Processor(
        Molmo2ImageProcessor(**sizes, max_crops=4, overlap_margins=[1, 1]),
        Molmo2VideoProcessor(**sizes),
        words,
        chat_template=_CHAT.replace("{IMAGE}", "<|image|>"),
    )
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "image_size": [64, 64], **heads}
    vision |= {"patch_size": 8, "num_position_embeddings": 64}
    adapter = {"vision_feature_layer": [-1, -2], "hidden_size": 16, "intermediate_size": 24, "text_hidden_size": 32}
    text = {**_DECODER, "vocab_size": len(words), "additional_vocab_size": 4, "head_dim": 8}
    config = Molmo2Config(
        vision_config=vision,
        adapter_config={**adapter, **heads},
        text_config=text,
        image_patch_id=words.convert_tokens_to_ids("<im_patch>"),
    )
    return Making(partial(Molmo2ForConditionalGeneration, config), processor)


_KOSMOS_MARKS = ("</doc>", "<image>", "</image>")


def _kosmos_text(words: Any) -> dict[str, Any]:
    text = {"embed_dim": 32, "layers": 2, "ffn_dim": 40, "attention_heads": 4, "vocab_size": len(words)}
    text |= {"max_position_embeddings": 256, "dropout": 0.0, "attention_dropout": 0.0}
    return text | {"pad_token_id": words.pad_token_id, "bos_token_id": 2, "eos_token_id": 3}


def kosmos2() -> Making:
    words = tokenizer(_KOSMOS_MARKS)
    images = llava().processor.image_processor
    processor = Kosmos2Processor(images, words, num_patch_index_tokens=16)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    config = Kosmos2Config(text_config=_kosmos_text(words), vision_config=vision, latent_query_num=64)
    return Making(partial(Kosmos2ForConditionalGeneration, config), processor)


def kosmos2_5() -> Making:
    words = tokenizer(("<image>", "</image>", "<s_image>"))
    names = {"boi": "<image>", "eoi": "</image>", "image": "<s_image>"}
    words._set_model_specific_special_tokens({f"{name}_token": token for name, token in names.items()})
    images = Kosmos2_5ImageProcessor(patch_size={"height": 8, "width": 8})
    processor = Kosmos2_5Processor(images, words, num_image_tokens=6)
    processor.images_kwargs = {**processor.images_kwargs, "max_patches": 24}
    vision = {"hidden_size": 16, "patch_embed_hidden_size": 192, "intermediate_size": 24, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "head_dim": 8, "max_num_patches": 4096}
    config = Kosmos2_5Config(text_config=_kosmos_text(words), vision_config=vision, latent_query_num=6)
    return Making(partial(Kosmos2_5ForConditionalGeneration, config), processor)


def mllama() -> Making:
    words = tokenizer(("<|image|>", "<|python_tag|>", "<|im_start|>", "<|im_end|>"))
    images = MllamaImageProcessor(size={"height": 32, "width": 32}, max_image_tiles=4)
    processor = MllamaProcessor(images, words, chat_template=_CHAT.replace("{IMAGE}", "<|image|>"))
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_global_layers": 1}
    vision |= {"attention_heads": 2, "image_size": 32, "patch_size": 8, "max_num_tiles": 4}
    vision |= {"intermediate_layers_indices": [0], "vision_output_dim": 32}
    text = {**_DECODER, "vocab_size": len(words), "pad_token_id": words.pad_token_id, "cross_attention_layers": [1]}
    text |= {"bos_token_id": 2, "eos_token_id": 3}
    config = MllamaConfig(
        vision_config=vision, text_config=text, image_token_index=words.convert_tokens_to_ids("<|image|>")
    )
    return Making(partial(MllamaForConditionalGeneration, config), processor)


def idefics2(split: bool = True) -> Making:
    words = tokenizer(("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<|im_start|>", "<|im_end|>"))
    images = Idefics2ImageProcessor(size={"shortest_edge": 24, "longest_edge": 64}, do_image_splitting=split)
    processor = Idefics2Processor(images, words, image_seq_len=4, chat_template=_CHAT.replace("{IMAGE}", "<image>"))
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 64, "patch_size": 8}
    queries = {"hidden_size": 32, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2}
    queries |= {"resampler_head_dim": 8, "num_key_value_heads": 1}
    config = Idefics2Config(
        vision_config=vision,
        perceiver_config=queries,
        text_config={**_llava_text(words), "model_type": "mistral", "intermediate_size": 48},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    return Making(partial(Idefics2ForConditionalGeneration, config), processor)


def aria() -> Making:
    words = tokenizer(("<image>", "<|im_start|>", "<|im_end|>"))
    words._set_model_specific_special_tokens({"image_token": "<image>"})
    images = AriaImageProcessor(max_image_size=490)
    chat = _CHAT.replace("{IMAGE}", "<image>")
    processor = AriaProcessor(images, words, chat_template=chat, size_conversion={490: 4, 980: 4})
    vision = {"model_type": "idefics3_vision", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 980, "patch_size": 70}
    text = {**_DECODER, "vocab_size": len(words), "pad_token_id": words.pad_token_id, "moe_num_experts": 4}
    config = AriaConfig(
        vision_config=vision,
        text_config={**text, "moe_topk": 2, "moe_num_shared_experts": 1},
        projector_patch_to_query_dict={49: 4, 196: 4},
        image_token_index=words.image_token_id,
    )
    return Making(partial(AriaForConditionalGeneration, config), processor)


IMAGE_READERS = {"kosmos2": kosmos2, "kosmos2_5": kosmos2_5, "mllama": mllama}
IMAGE_READERS |= {"idefics2": idefics2, "idefics2_whole": partial(idefics2, split=False), "aria": aria}
MORE_GENERATORS = {
    "gemma4_per_layer": gemma4_per_layer,
    "gemma3n": gemma3n,
    "qwen3_5_moe": qwen3_5_moe,
    "qwen2_5_omni": qwen2_5_omni,
    "qwen3_omni": qwen3_omni,
    "glm4v_moe": glm4v_moe,
    "glm46v": glm46v,
    "glm_ocr": glm_ocr,
    "paddleocr_vl": paddleocr_vl,
    "deepseek_vl": deepseek_vl,
    "janus": janus,
    "fast_vlm": fast_vlm,
    "llava_gemma2": llava_gemma2,
    "lighton_ocr": lighton_ocr,
    "got_ocr2": got_ocr2,
    "ovis2": ovis2,
    "molmo2": molmo2,
}


def _swin(images: Any) -> Making:
    words = tokenizer(("<s_task>", "<s_question>", "</s_question>", "<s_answer>"))
    encoder = DonutSwinConfig(
        image_size=[128, 96],
        patch_size=4,
        embed_dim=8,
        depths=[1, 1],
        num_heads=[2, 2],
        window_size=4,
        drop_path_rate=0.0,
    )
    sizes = {"d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 24}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "forced_eos_token_id": None}
    decoder = MBartConfig(
        vocab_size=len(words), max_position_embeddings=96, is_decoder=True, add_cross_attention=True, **sizes, **ids
    )
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    return Making(partial(VisionEncoderDecoderModel, config), images(words))


def donut() -> Making:
    images = DonutImageProcessor(size={"height": 128, "width": 96})
    return _swin(lambda words: DonutProcessor(images, words))


def nougat() -> Making:
    images = NougatImageProcessor(size={"height": 128, "width": 96})
    return _swin(lambda words: NougatProcessor(images, words))


def pix2struct() -> Making:
    words = tokenizer(())
    images = Pix2StructImageProcessor(patch_size={"height": 8, "width": 8})
    vision = {"hidden_size": 16, "patch_embed_hidden_size": 192, "d_ff": 24, "d_kv": 8, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 2, "seq_len": 32}
    text = {"vocab_size": len(words), "hidden_size": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    text |= {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 3}
    config = Pix2StructConfig(vision_config=vision, text_config=text)
    processor = Pix2StructProcessor(images, words)
    processor.images_kwargs = {"max_patches": 24}
    return Making(partial(Pix2StructForConditionalGeneration, config), processor)


PAGE_READERS = {"donut": donut, "nougat": nougat, "pix2struct": pix2struct}
