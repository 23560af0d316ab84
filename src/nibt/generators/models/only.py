"""Families of models that only write text about images."""

from nibt.generators.base import OnlyGenerators


class Llava(OnlyGenerators, name="llava"):
    """Generators whose decoder reads image tokens: LLaVA (Liu et al., NeurIPS 2023), InternVL, Gemma, Mistral 3.

    They write text about an image, and do not embed captions. Layers are those of the decoder.
    """


class GIT(OnlyGenerators, name="git"):
    """GIT, which reads the features of an image and a text in one sequence, and writes (Wang et al., 2022).

    Layers are those of the decoder.
    """


class Florence2(OnlyGenerators, name="florence_2"):
    """Florence-2, whose encoder reads an image and a prompt, and whose decoder writes (Xiao et al., CVPR 2024).

    Layers are those of the encoder of texts. The words of the answer before a word do not pass through them, so they
    cannot be narrowed.
    """


class VisionEncoderDecoder(OnlyGenerators, name="vision_encoder_decoder"):
    """``VisionEncoderDecoderModel``: an image encoder and a text decoder that writes, such as TrOCR and ViT-GPT-2.

    They describe or read an image without a prompt. Layers are those of the image encoder.
    """
