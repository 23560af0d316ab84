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


class ImageReader(OnlyGenerators, name="image_reader"):
    """Generators that read an image encoder by learned queries or cross-attention: Kosmos-2, Idefics 2, Mllama.

    The only layer is that of the last states of the image encoder. Words do not pass through it, so they cannot be
    narrowed.
    """


class PageReader(OnlyGenerators, name="page_reader"):
    """Pix2Struct, which cuts an image of any aspect ratio into patches, and writes (Lee et al., ICML 2023).

    The only layer is that of the last states of the image encoder.
    """
