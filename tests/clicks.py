"""An answer with coordinates of a tiny generator."""

import copy
from functools import cache
from typing import Any

import nibt
from tests import tiny
from tests.tiny_vision_language import built


@cache
def clicked(answer: str = "(412, 230)") -> nibt.AnswerExplanation:
    """Explain an answer of a tiny Qwen3-VL whose tokenizer has numbers, about an image of 300 x 200 pixels."""
    plain = built("qwen3_vl")
    words = copy.deepcopy(plain.processor.tokenizer)
    words.add_tokens(["(", ")", "[", "]", ",", "412", "230", "10", "20", "110", "90"])
    processor = copy.copy(plain.processor)
    processor.tokenizer = words
    plain.module.resize_token_embeddings(len(words), mean_resizing=False)
    loaded = nibt.load_generator(plain.module, processor=processor)
    options: dict[str, Any] = {"narrow": ["image"], "layer": 2, "steps": 2, "other_images": []}
    return nibt.explain_answer(loaded, tiny.image(300, 200), "a red cat", answer, **options)
