"""The base class of metrics that know the labels of a data set."""

from abc import ABC
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.datasets._zero_shot import openai_templates
from nibt.errors import BadOption, Unsupported
from nibt.metrics.base import Metric, MetricInput
from nibt.targets._similarity import Others
from nibt.types import Embedding

OPENAI = "openai"


@dataclass(frozen=True)
class LabelMetric(Metric, ABC):
    """Base class of metrics that know the labels of a data set.

    Args:
        template: The caption of a label, with ``{}`` in its place. With ``openai``, the embedding of a label is the
            mean of those of OpenAI's 80 captions for ImageNet.

    """

    template: str = field(default="a photo of a {}.", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template != OPENAI and self.template.count("{}") != 1:
            raise BadOption(f"template must be openai, or contain {{}} once, for the label (got {self.template!r})")

    def labels(self, metric_input: MetricInput) -> tuple[str, ...]:
        """Return the labels of the pairs, which all have the same ones; none if no pair has labels."""
        return next((truth.labels for truth in metric_input.truths if truth.labels), ())

    def embeddings(self, metric_input: MetricInput, names: tuple[str, ...]) -> Embedding:
        """Return the embeddings of labels by their names, of unit length: (name, dim)."""
        return metric_input.once_for_all_pairs(
            ("labels", self.template, names), lambda: self._embedded(metric_input, names)
        )

    def _embedded(self, metric_input: MetricInput, names: tuple[str, ...]) -> Embedding:
        assert metric_input.embed is not None
        if metric_input.side.model.item_ndim != 1:
            raise Unsupported(f"{self.name} needs a model with one vector per caption, without late interaction")
        templates = openai_templates() if self.template == OPENAI else (self.template,)
        captions = [template.replace("{}", name) for name in names for template in templates]
        embeddings = F.normalize(metric_input.embed("text", captions).float(), dim=-1)
        return F.normalize(embeddings.unflatten(0, (len(names), -1)).mean(1), dim=-1)

    def similarities(self, metric_input: MetricInput, embedding: Embedding) -> Float[Tensor, "*batch label"]:
        """Compute the similarity of images with each label."""
        similarity = metric_input.side.dual_encoder.seen_from("image")
        labels = self.embeddings(metric_input, self.labels(metric_input))
        return similarity.to_each(embedding.float(), labels.to(embedding.device)).cpu()

    def maps(
        self, metric_input: MetricInput, labels: Embedding, others: Others | None = None
    ) -> Float[Tensor, "batch row column"]:
        """Compute the map of each image for the embedding of a label, compared with others if there are any."""
        assert metric_input.for_embeddings is not None
        like = metric_input.side.trace.embedding
        others = None if others is None else others.to(like)
        return metric_input.for_embeddings(labels.to(like), others).grid.detach().float().cpu()

    def map_of_each(
        self, metric_input: MetricInput, names: tuple[str, ...], against: bool
    ) -> Float[Tensor, "name batch row column"]:
        """Compute the maps of the images for each name, compared with all other names if ``against`` is true."""

        def computed() -> Float[Tensor, "name batch row column"]:
            embeddings, count, maps = self.embeddings(metric_input, names), len(metric_input.truths), []
            for place, embedding in enumerate(embeddings):
                others = torch.cat([embeddings[:place], embeddings[place + 1 :]]) if against else None
                maps.append(self.maps(metric_input, embedding.expand(count, -1), others))
            return torch.stack(maps)

        return metric_input.once(("map of each", self.template, names, against), computed)
