"""Small generators whose decoder attends to the states of an image encoder, with their own processors.

Nothing here imports nibt.
"""

from functools import partial
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    BlipForQuestionAnswering,
    BlipImageProcessor,
    BlipProcessor,
    PreTrainedTokenizerFast,
)

from benchmarks.tiny_vision_language import Making, tokenizer

_SIZE: dict[str, Any] = {"size": {"height": 32, "width": 32}}
_LAYERS = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
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


ENCODER_DECODERS = {
    "blip_caption": partial(_blip, BlipForConditionalGeneration),
    "blip_question": partial(_blip, BlipForQuestionAnswering),
}
