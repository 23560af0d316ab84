"""Retrieval after removal: whether a pair that is retrieved is lost once its highest units are removed, 1 or 0.

The pair competes with the other pairs of the call. Pairs that are not retrieved before the removal have no value, so
the mean is the share of retrieved pairs that are lost.

With ``corrupted="query"``, an image without its highest patches is the query for its caption, and a caption without
its highest words for its image. With ``corrupted="candidate"``, the whole caption is the query for the image without
its highest patches. Equal images or captions do not compete.

Range:
    0 or 1

Forward passes:
    1, and those of all images and captions of the call, once

Use it when:
    You want faithfulness in terms of a task. Compare it with the control ``random``.

Avoid it when:
    The call (in a benchmark, a chunk of ``batch_size``) has few pairs: all are retrieved, whatever is removed.

Source:
    AdaIB (ICLR 2026 submission), which calls it ROAR and reports (acc - acc after) / acc
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from nibt.core.perturbation import masker
from nibt.data.units import Grid
from nibt.metrics._perturbation import PerturbationMetric, ranks
from nibt.metrics.base import Candidates, MetricInput
from nibt.options import OneOf, Share
from nibt.types import Embedding, PerExample

_MARGIN = 1e-6  # smaller differences of similarities are rounding errors


@dataclass(frozen=True)
class RetrievalAfterRemoval(PerturbationMetric):
    """Whether a pair that is retrieved is lost once its highest units are removed.

    Args:
        corrupted: The side without its highest units: ``query`` or ``candidate``.
        image_share: The share of patches that are removed.
        text_share: The share of the tokens of words that are removed, at least one.
    """

    better = "higher"
    bounds = (0.0, 1.0)
    corrupted: Annotated[str, OneOf(("query", "candidate"))] = "query"
    image_share: Share = 0.25
    text_share: Share = 0.1

    def __call__(self, metric_input: MetricInput) -> PerExample:
        side, units = metric_input.side, metric_input.attribution.units
        if metric_input.candidates is None:
            return torch.full((len(side.inputs),), torch.nan, dtype=torch.float32)
        hits = self._hits(metric_input.once("candidates", metric_input.candidates))
        order, counts = ranks(metric_input)
        share = self.image_share if isinstance(units, Grid) else self.text_share
        keep = (order >= (share * counts).round().clamp_min(1)[:, None]).float()
        after = masker(replace(side, score=hits), units, hide=self.hide, seed=self.seed)(keep).cpu()
        before = hits(side.trace.embedding).cpu()
        return torch.where(before == 1, 1 - after, torch.nan).float()

    def _hits(self, candidates: Candidates) -> Callable[[Embedding], PerExample]:
        """Return a function of embeddings: 1 where the pair is retrieved, 0 where it is not, NaN without candidates."""
        similarity, partners = candidates.similarity, candidates.partners.detach().float()

        def hit(embedding: Embedding, row: int) -> PerExample:
            partner, vectors = partners[row], embedding.detach().float()
            if self.corrupted == "query":
                others = similarity.to_each(vectors, candidates.opposite[row].float())
            else:
                others = similarity(candidates.same_side[row].float(), partner)
            if not others.shape[-1]:
                return torch.full(vectors.shape[: vectors.ndim - similarity.item_ndim], torch.nan, dtype=torch.float32)
            return (similarity(vectors, partner) > others.amax(-1) + _MARGIN).float()

        def hits(embeddings: Embedding) -> PerExample:
            rows = embeddings.unbind(-1 - similarity.item_ndim)
            return torch.stack([hit(embedding, row) for row, embedding in enumerate(rows)], -1)

        return hits
