"""Generators whose decoder reads image tokens: LLaVA, InternVL, Gemma 3 (Liu et al., NeurIPS 2023, arXiv 2304.08485).

They write text about an image, and do not embed captions. Layers are those of the decoder.
"""

from nibt.models.vision_language import VisionLanguage


class Llava(VisionLanguage):
    """Vision-language models that only generate text."""

    model_types = ()
    class_names = ()
    generator_classes = tuple(
        f"{name}ForConditionalGeneration" for name in ("Llava", "LlavaNext", "LlavaOnevision", "InternVL", "Gemma3")
    )


PLUGIN = Llava
