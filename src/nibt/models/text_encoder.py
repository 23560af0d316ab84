"""A dual encoder with the text encoder of another model, whose embeddings are in the space of its images.

Such an encoder is trained to give the embeddings of the dual encoder for texts of other languages, as
``sentence-transformers/clip-ViT-B-32-multilingual-v1`` for CLIP.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from nibt.errors import CannotLoad
from nibt.io import load_json
from nibt.models._family import Family
from nibt.models._hugging_face import HuggingFaceTextTower, encoder_blocks, load_weights, read_config, text_tokenizer
from nibt.models._request import LoadRequest
from nibt.models._saved import SENTENCE_MODULES
from nibt.models._sentence_modules import after_encoder, pooling_of_texts
from nibt.models._text_tower import TextTower
from nibt.models._tower import part
from nibt.models.base import ImageTower, Inputs, Model
from nibt.records import JsonObject
from nibt.registry import find
from nibt.types import Embedding

_LENGTHS = "sentence_bert_config.json"
_POOLER = r"(^|\.)pooler\."  # of BERT, in whose place the folder says how to pool


@dataclass(frozen=True)
class _Configurations:
    """The configuration of the text encoder, and the digest of that of the dual encoder."""

    text_config: PreTrainedConfig
    images: str

    def to_dict(self) -> JsonObject:
        """Return both as plain data."""
        return {"text_config": self.text_config.to_dict(), "images": self.images}


class WithTextEncoder(nn.Module):
    """A dual encoder, and an encoder of texts in place of its own."""

    def __init__(self, images: Model, text: nn.Module, pooling: str, after: nn.Module, longest: int | None) -> None:
        super().__init__()
        self.images = images.module
        self.text = text
        self.after_text = after
        self.image_family = images.family
        self.image_request = images.request
        self.pooling = pooling
        self.longest = longest
        self.config = _Configurations(text.config, images.configuration_hash)  # pyright: ignore
        self.training = False

    text_model = property(attrgetter("text"))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutputWithPooling:
        """Compute the embeddings of captions."""
        states = self.text(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutputWithPooling(pooler_output=self.embedding(states, attention_mask))

    def embedding(self, states: Tensor, attention_mask: Tensor) -> Embedding:
        """Pool the last states of captions, and map them to the space of the images."""
        if self.pooling == "cls":
            return self.after_text(states[:, 0])

        weights = attention_mask[..., None].to(states.dtype)
        return self.after_text((states * weights).sum(1) / weights.sum(1))


class PooledTextEncoder(HuggingFaceTextTower):
    """A text tower whose embedding is the mean over the tokens of a caption, or its first token."""

    blocks = part("model", lambda model: encoder_blocks(getattr(model, "transformer", model)))

    @cached_property
    def context(self) -> int:
        """The largest number of tokens, by the model and by its configuration for sentences."""
        lengths = (super().context, self.root.longest, self.tokenizer.model_max_length)
        return min(length for length in lengths if length)

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": inputs.extra["attention_mask"]}

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        return self.root.embedding(stream, extra["mask"])


class TextEncoderFamily(Family, name="text_encoder"):
    """A dual encoder with the text encoder of another folder: ``load_model(model, text_model=folder)``.

    Text encoders are BERT, DistilBERT, RoBERTa and XLM-RoBERTa with mean pooling or the first token, and the linear
    modules of sentence-transformers. Logits have the scale of the dual encoder.
    """

    needs_processor = True

    @staticmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        raise CannotLoad("a text encoder is loaded beside a dual encoder: load_model(model, text_model=folder)")

    @staticmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        of_images: Any = module
        image, _ = find("models", of_images.image_family).towers(of_images.images, of_images.image_request)
        image.after = getattr(of_images.images, "after_encoder", nn.Identity())
        return image, PooledTextEncoder(module, request)

    @staticmethod
    def scale_and_bias(module: nn.Module) -> tuple[float, float]:
        of_images: Any = module
        return find("models", of_images.image_family).scale_and_bias(of_images.images)


def load_text_encoder(name: str, folder: Path, images: Model) -> tuple[nn.Module, LoadRequest]:
    """Load the text encoder of a folder of sentence-transformers beside the images of a model."""
    from transformers import AutoModel

    dtype = images.request.dtype
    inner = folder / _path_of_encoder(name, folder)
    pooling = pooling_of_texts(name, folder)
    after = after_encoder(name, folder, dtype) or nn.Identity()
    text, _ = load_weights(AutoModel, str(inner), read_config(str(inner)), dtype, _POOLER)
    tokenizer = text_tokenizer(str(inner))

    path = inner / _LENGTHS
    lengths = load_json(path) if path.is_file() else {}
    module = WithTextEncoder(images, text, pooling, after, lengths.get("max_seq_length"))
    facts = {**images.request.facts, "text_model": name}
    # what was measured with the text encoder of the model, or chosen for it, does not hold for another one
    defaults = {
        name: value
        for name, value in images.request.defaults.items()
        if name != "usual_change" and not name.startswith("text_")
    }
    request = replace(images.request, tokenizer=tokenizer, facts=facts, after=None, defaults=defaults)
    return module.eval().requires_grad_(False), request


def _path_of_encoder(name: str, folder: Path) -> str:
    """Return the place of the encoder in a folder of sentence-transformers."""
    file = folder / SENTENCE_MODULES
    if not file.is_file():
        raise CannotLoad(
            f"{name!r} has no {SENTENCE_MODULES} of sentence-transformers, which says how its texts are pooled and "
            "mapped to the space of the images: give the folder that SentenceTransformer.save wrote"
        )
    try:
        first, *_ = load_json(file)
        return str(first.get("path", ""))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise CannotLoad(f"{file} does not list the modules of sentence-transformers: save the model again") from error
