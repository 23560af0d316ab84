"""Embedders on vision-language models: Qwen-VL, Idefics 3, SmolVLM, PaliGemma (GME, Qwen3-VL-Embedding, VLM2Vec).

One language model serves both sides. The image side is a prompt with the image, the text side a prompt with the text,
and the embedding is the last hidden state of the last token, or the mean over all tokens. Layers are those of the
language model.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from nibt.data.images import ImageInput
from nibt.models._family import Family
from nibt.models._hugging_face import load_pretrained, with_joint_processor
from nibt.models._request import Request
from nibt.models._vision_language.answers import decoder_answer_tower
from nibt.models._vision_language.checkpoints import check_sizes, settings
from nibt.models._vision_language.network import PooledNetwork, decoder_of
from nibt.models._vision_language.pixels import TileLayout
from nibt.models._vision_language.prompts import Prompts, own_special_tokens
from nibt.models._vision_language.tiles import encoded, layout_of
from nibt.models._vision_language.towers import DecoderImageTower, DecoderTextTower
from nibt.models.base import ImageTower, TextTower


class VisionLanguage(Family):
    """Vision-language models that were trained to embed prompts."""

    model_types = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "idefics3", "smolvlm", "paligemma")
    class_names = tuple(
        architecture + head
        for architecture in ("Qwen2VL", "Qwen2_5_VL", "Qwen3VL", "Idefics3", "SmolVLM", "PaliGemma")
        for head in ("ForConditionalGeneration", "Model")
    )
    generator_classes = tuple(name for name in class_names if name.endswith("ForConditionalGeneration"))
    answer_tower = decoder_answer_tower
    has_logits = False

    @staticmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        settings(source, request)  # before weights are loaded
        return VisionLanguage.load_generator(source, request)

    @classmethod
    def load_generator(cls, source: str, request: Request) -> tuple[nn.Module, Request]:
        import transformers

        request = with_joint_processor(source, request)
        names = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False).architectures or ["AutoModel"]
        # the class that was saved, since adapters name its parts; a class of the checkpoint's own code is not run
        model_class = getattr(transformers, names[0] if names[0] in cls.class_names else "AutoModel")
        return load_pretrained(model_class, source, request)

    @staticmethod
    def resolved(source: str, request: Request) -> Request:
        check_sizes(request)
        values = settings(source, request)
        prompts = Prompts.of(request.processor, values)
        values |= {"image_prompt": prompts.image, "text_prompt": prompts.text}
        recorded = ("pooling", "image_prompt", "text_prompt", "positions")
        facts = {key: values[key] for key in recorded if key in values}
        return replace(request, embedding=values, facts={**request.facts, **facts})

    @staticmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        values = request.embedding
        base = getattr(module, "model", module)  # without the head that predicts tokens
        network = PooledNetwork(module, base, decoder_of(base), values["pooling"], values.get("positions"))
        processor, prompt, layout = request.processor, values["image_prompt"], layout_of(request.processor)

        def encode(image: ImageInput) -> Mapping[str, Tensor]:
            images = [image.pil_image]
            listed = [images] if isinstance(layout, TileLayout) else images  # which takes the images of each prompt
            options = own_special_tokens(processor.tokenizer, prompt)
            return encoded(processor, processor(text=[prompt], images=listed, return_tensors="pt", **options))

        image = DecoderImageTower(network, layout, encode)
        return image, DecoderTextTower(network, processor, values["text_prompt"])
