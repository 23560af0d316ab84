"""Generators whose decoder reads image tokens: LLaVA, InternVL, Gemma 3 (Liu et al., NeurIPS 2023, arXiv 2304.08485).

They write text about an image, and do not embed captions. Layers are those of the decoder.
"""

from nibt.models._family import OnlyGenerators
from nibt.models._vision_language.answers import decoder_answer_tower


class Llava(OnlyGenerators):
    """Vision-language models that only generate text."""

    generator_classes = tuple(
        f"{name}ForConditionalGeneration" for name in ("Llava", "LlavaNext", "LlavaOnevision", "InternVL", "Gemma3")
    )
    answer_tower = decoder_answer_tower
