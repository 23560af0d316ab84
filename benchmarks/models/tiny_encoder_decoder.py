"""Small generators with an image encoder whose states a decoder reads, with their own processors.

Nothing here imports nibt.
"""

from functools import partial
from typing import Any

from tokenizers.processors import TemplateProcessing
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    GPT2Config,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    PreTrainedTokenizerFast,
    TrOCRConfig,
    TrOCRProcessor,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
)

from .tiny_vision_language import Making, tokenizer

_SIZE: dict[str, Any] = {"size": {"height": 32, "width": 32}}
_LAYERS = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
_ATTENTION = {"attention_heads": 2, "ffn_dim": 24}
_VISION = {**_LAYERS, "image_size": 32, "patch_size": 8}


def _framed() -> PreTrainedTokenizerFast:
    """Return a tokenizer that puts texts between tokens of start and end, as that of BERT."""
    words = tokenizer(())
    ends = [(token, words.convert_tokens_to_ids(token)) for token in ("<bos>", "<eos>")]
    words.backend_tokenizer.post_processor = TemplateProcessing(single="<bos> $A <eos>", special_tokens=ends)
    return words


def _blip(model_class: Any) -> Making:
    words = _framed()
    ids = {"bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text = {**_LAYERS, "encoder_hidden_size": 24, "vocab_size": len(words), "max_position_embeddings": 64, **ids}
    config = BlipConfig(text_config=text, vision_config=_VISION)
    return Making(partial(model_class, config), BlipProcessor(BlipImageProcessor(**_SIZE), words))


def _pair(decoder: Any) -> Making:
    words = _framed()
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**_VISION), decoder(len(words)))
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    return Making(partial(VisionEncoderDecoderModel, config), TrOCRProcessor(ViTImageProcessor(**_SIZE), words))


def _gpt_2(count: int) -> GPT2Config:
    sizes = {"n_embd": 20, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.4}
    return GPT2Config(vocab_size=count, bos_token_id=2, eos_token_id=3, **sizes)


def _trocr(count: int) -> TrOCRConfig:
    sizes = {"d_model": 24, "decoder_layers": 2, "decoder_attention_heads": 3, "decoder_ffn_dim": 32}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0, "decoder_start_token_id": 2}
    return TrOCRConfig(vocab_size=count, cross_attention_hidden_size=24, max_position_embeddings=64, **sizes, **ids)


def florence_2() -> Making:
    words = _framed()
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    words._set_model_specific_special_tokens({"image_token": "<image>"})
    sides = [8, 8, 8, 16]
    vision = {"depths": [1] * 4, "embed_dim": sides, "num_heads": [2] * 4, "num_groups": [2] * 4, "window_size": 4}
    vision |= {"projection_dim": 20, "drop_path_rate": 0.0}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0, "decoder_start_token_id": 3}
    text = {"model_type": "bart", "d_model": 20, "encoder_layers": 3, "decoder_layers": 2, "vocab_size": len(words)}
    text |= {f"{part}_{name}": value for part in ("encoder", "decoder") for name, value in _ATTENTION.items()}
    config = Florence2Config(
        vision_config=vision,
        text_config={**text, "max_position_embeddings": 96, "forced_bos_token_id": 2, **ids},
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    images = CLIPImageProcessor(size={"height": 128, "width": 128}, do_center_crop=False)
    images.image_seq_length = 17
    return Making(partial(Florence2ForConditionalGeneration, config), Florence2Processor(images, words))


def git() -> Making:
    words = _framed()
    words.cls_token, words.sep_token = "<bos>", "<eos>"
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = GitConfig(vision_config=_VISION, vocab_size=len(words), max_position_embeddings=64, **_LAYERS, **ids)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return Making(partial(GitForCausalLM, config), GitProcessor(images, words))


def _queried(model_class: Any, config: Any) -> nn.Module:
    """Return a model with random query tokens: those of a new one are zeros."""
    model = model_class(config)
    nn.init.normal_(model.query_tokens)
    return model


def _blip_2(model: str) -> Making:
    words = _framed()
    words.add_special_tokens({"additional_special_tokens": ["<image>"]})
    words.image_token = "<image>"
    count, ids = len(words), {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    former = {**_LAYERS, "encoder_hidden_size": 24, "vocab_size": count, "cross_attention_frequency": 2}
    former |= {"max_position_embeddings": 64, "pad_token_id": 0}
    opt = {"model_type": "opt", "hidden_size": 16, "word_embed_proj_dim": 16, "num_hidden_layers": 2, "ffn_dim": 24}
    opt |= {"num_attention_heads": 2, "max_position_embeddings": 64, "vocab_size": count, **ids}
    t5 = {"model_type": "t5", "d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2}
    t5 |= {"vocab_size": count, "decoder_start_token_id": 0, **ids}
    instructed = model == "instruct"
    config = (InstructBlipConfig if instructed else Blip2Config)(
        vision_config=_VISION,
        qformer_config=former,
        text_config=t5 if model == "t5" else opt,
        num_query_tokens=5,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    images = BlipImageProcessor(**_SIZE)
    if instructed:
        processor: Any = InstructBlipProcessor(images, words, _framed(), num_query_tokens=5)
    else:
        processor = Blip2Processor(images, words, num_query_tokens=5)
    model_class = InstructBlipForConditionalGeneration if instructed else Blip2ForConditionalGeneration
    return Making(partial(_queried, model_class, config), processor)


ENCODER_DECODERS = {
    "florence_2": florence_2,
    "blip_2_opt": partial(_blip_2, "opt"),
    "blip_2_t5": partial(_blip_2, "t5"),
    "instructblip": partial(_blip_2, "instruct"),
    "vit_gpt_2": partial(_pair, _gpt_2),
    "vit_trocr": partial(_pair, _trocr),
    "blip_caption": partial(_blip, BlipForConditionalGeneration),
    "blip_question": partial(_blip, BlipForQuestionAnswering),
}
