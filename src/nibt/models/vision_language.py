"""Embedders on vision-language models, which embed a prompt as one vector or as a set of vectors."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from nibt.data.images import ImageInput
from nibt.errors import CannotLoad
from nibt.models._family import Family
from nibt.models._hugging_face import load_pretrained, read_config, with_joint_processor
from nibt.models._request import LoadRequest
from nibt.models._text_tower import TextTower
from nibt.models._vision_language.prompts import TEXT, check_sizes, own_special_tokens, prompts_of, settings, tokens
from nibt.models._vision_language.tiles import encoded, layout_of
from nibt.models._vision_language.towers import (
    DecoderImageTower,
    DecoderTextTower,
    LateNetwork,
    PooledNetwork,
    decoder_of,
)
from nibt.models.base import ImageTower
from nibt.preprocessing.images import Processor
from nibt.targets.base import MaxSim


class VisionLanguage(Family, name="vision_language"):
    """Embedders on vision-language models: Qwen-VL, Idefics 3, SmolVLM, PaliGemma (GME, Qwen3-VL-Embedding, VLM2Vec).

    One language model serves both sides. The image side is a prompt with the image, the text side a prompt with the
    text, and the embedding is the last hidden state of the last token, or the mean over all tokens. Layers are those of
    the language model.
    """

    has_logits = False

    @staticmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        settings(source, request)  # before weights are loaded
        return VisionLanguage.load_saved(source, request)

    @classmethod
    def load_saved(cls, source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        """Load a checkpoint as the class that was saved."""
        import transformers

        names = read_config(source).architectures or ["AutoModel"]
        request = with_joint_processor(source, request, "load_model" if request.embedding else "load_generator")
        # the class that was saved, since adapters name its parts; a class of the checkpoint's own code is not run
        model_class = getattr(transformers, names[0] if names[0] in cls.class_names else "AutoModel")
        return load_pretrained(model_class, source, request)

    @staticmethod
    def resolved(source: str, request: LoadRequest) -> LoadRequest:
        check_sizes(request)
        values = settings(source, request)
        values |= prompts_of(request.processor, values)
        recorded = ("pooling", "image_prompt", "text_prompt", "positions")
        facts = {key: values[key] for key in recorded if key in values}
        return replace(request, embedding=values, facts={**request.facts, **facts})

    @staticmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        values = request.embedding
        base = getattr(module, "model", module)  # without the head that predicts tokens
        network = PooledNetwork(module, base, decoder_of(base), values["pooling"], values.get("positions"))
        processor = request.processor
        prompt = values["image_prompt"]
        layout = layout_of(request.processor)

        def encode(image: ImageInput) -> Mapping[str, Tensor]:
            images = layout.images(image)
            options = own_special_tokens(processor.tokenizer, prompt)
            return encoded(processor, processor(text=[prompt], images=images, return_tensors="pt", **options))

        image = DecoderImageTower(network, layout, encode)
        return image, DecoderTextTower(network, processor, values["text_prompt"])


_AUGMENTATION = 10  # tokens that the processors append to a query


class LateInteraction(Family, name="late_interaction"):
    """Late interaction on vision-language models: ColPali, ColQwen2, ColQwen2.5, ColModernVBERT (Faysse et al., 2025).

    An image and a text are each embedded as a set of vectors, one for each token of their prompts. Their similarity is
    MaxSim. Models of colpali-engine, which have classes of its own, are taken in memory: ColPali, ColQwen2, ColQwen2.5
    and ColIdefics3 (ColSmol).
    """

    similarity = MaxSim()
    has_logits = False

    @staticmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        import transformers

        config = read_config(source)
        model_class = getattr(transformers, config.__class__.__name__.replace("Config", "ForRetrieval"))
        return load_pretrained(model_class, source, with_joint_processor(source, request))

    @staticmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        check_sizes(request)
        root: Any = module
        if getattr(root, "mask_non_image_embeddings", False):
            raise CannotLoad("only the tokens of the image are kept of it: set model.mask_non_image_embeddings = False")

        inner = getattr(root, "vlm", getattr(root, "model", root))
        base = inner if hasattr(root, "vlm") else getattr(inner, "model", inner)  # without a head that predicts tokens
        network = LateNetwork(root, base, decoder_of(base))
        processor = request.processor

        def encode(image: ImageInput) -> Mapping[str, Tensor]:
            return encoded(processor, processor.process_images([image.pil_image]))

        image = DecoderImageTower(network, layout_of(processor, nested=hasattr(base, "visual")), encode)
        return image, DecoderTextTower(network, processor, _query_prompt(processor))


def _query_prompt(processor: Processor) -> str:
    """Return the prompt of a query, with ``{text}``, which the processor builds inside."""
    start = processor.tokenizer.bos_token if "ColPali" in type(processor).__name__ else ""
    prompt = f"{start}{processor.query_prefix}{TEXT}{processor.query_augmentation_token * _AUGMENTATION}"
    expected = processor.process_queries(["two words"])["input_ids"][0].tolist()
    for end in ("", "\n"):
        if list(tokens(processor.tokenizer, prompt + end, "two words", len(expected) + 1).ids) == expected:
            return prompt + end

    raise CannotLoad(
        f"{type(processor).__name__} builds another prompt of a query than nibt knows ({prompt!r}): please report it "
        "with your version of transformers"
    )
