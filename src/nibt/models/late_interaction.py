"""Late interaction on vision-language models: ColPali, ColQwen2, ColQwen2.5, ColModernVBERT (Faysse et al., 2025).

An image and a text are each embedded as a set of vectors, one for each token of their prompts. Their similarity is
MaxSim.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from nibt.data.images import ImageInput
from nibt.errors import CannotLoad
from nibt.models._family import Family
from nibt.models._hugging_face import load_pretrained, with_joint_processor
from nibt.models._request import Request
from nibt.models._vision_language.checkpoints import check_sizes
from nibt.models._vision_language.network import LateNetwork, decoder_of
from nibt.models._vision_language.prompts import TEXT, tokens
from nibt.models._vision_language.tiles import encoded, layout_of
from nibt.models._vision_language.towers import DecoderImageTower, DecoderTextTower
from nibt.models.base import ImageTower, TextTower
from nibt.targets.base import MaxSim

_AUGMENTATION = 10  # tokens that the processors append to a query


class LateInteraction(Family):
    """The checkpoints of ``ColPaliForRetrieval``, ``ColQwen2ForRetrieval`` and ``ColModernVBertForRetrieval``."""

    model_types = ("colpali", "colqwen2", "colmodernvbert")
    class_names = ("ColPaliForRetrieval", "ColQwen2ForRetrieval", "ColModernVBertForRetrieval")
    similarity = MaxSim()
    has_logits = False

    @staticmethod
    def load(source: str, request: Request) -> tuple[nn.Module, Request]:
        import transformers

        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False)
        model_class = getattr(transformers, config.__class__.__name__.replace("Config", "ForRetrieval"))
        return load_pretrained(model_class, source, with_joint_processor(source, request))

    @staticmethod
    def towers(module: nn.Module, request: Request) -> tuple[ImageTower, TextTower]:
        check_sizes(request)
        root: Any = module
        network, processor = LateNetwork(root, root.vlm, decoder_of(root.vlm)), request.processor

        def encode(image: ImageInput) -> Mapping[str, Tensor]:
            return encoded(processor, processor.process_images([image.pil_image]))

        image = DecoderImageTower(network, layout_of(processor, nested=hasattr(root.vlm, "visual")), encode)
        return image, DecoderTextTower(network, processor, _query_prompt(processor))


def _query_prompt(processor: Any) -> str:
    """Return the prompt of a query, with ``{text}``, which the processor builds inside."""
    start = processor.tokenizer.bos_token if "ColPali" in type(processor).__name__ else ""
    end = "" if "ModernVBert" in type(processor).__name__ else "\n"
    prompt = f"{start}{processor.query_prefix}{TEXT}{processor.query_augmentation_token * _AUGMENTATION}{end}"
    expected = processor.process_queries(["two words"])["input_ids"][0].tolist()
    if list(tokens(processor.tokenizer, prompt, "two words", len(expected) + 1).ids) != expected:
        raise CannotLoad(
            f"{type(processor).__name__} builds another prompt of a query than nibt knows ({prompt!r}): please report "
            "it with your version of transformers"
        )
    return prompt
