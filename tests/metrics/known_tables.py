"""Tables of a tiny pair for which metrics of regions are known by hand."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nibt.core.side import Side
from nibt.data.pair import Pair
from nibt.engine.regions import explain_pair, resolve_regions
from nibt.metrics.base import Metric, Noun, RegionsInput
from nibt.registry import MethodSpec
from nibt.results.regions import Regions
from tests import tiny
from tests.answers import with_scores

CAPTION = "red cat small mat"


def tiny_table(method: str = "banzhaf", **options: Any) -> tuple[Regions, Side, Side]:
    """Return the table of a tiny pair with its sides."""
    model = tiny.model("clip")
    spec = resolve_regions(model, MethodSpec(method, "default", options))
    return explain_pair(spec, Pair(tiny.image(), CAPTION), ())


def known(rows: list[list[float]]) -> Regions:
    """Return a table with these scores of four words, in the patches of the tiny image."""
    table, _, _ = tiny_table("occlusion")
    scores = torch.zeros_like(table.scores)
    for place, row in enumerate(rows):
        scores[place, : len(row)] = torch.tensor(row)
    return with_scores(table, scores)


def input_of(table: Regions, *nouns: Noun) -> RegionsInput:
    _, image, text = tiny_table("occlusion")
    return RegionsInput(table, image, text, nouns)


def number(metric: Metric[RegionsInput], metric_input: RegionsInput) -> float:
    """Return the number of one pair."""
    (value,) = metric(metric_input).tolist()
    return value


def quarter(row: int, column: int) -> torch.Tensor:
    """Return the mask of a quarter of the region."""
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[20 * row : 20 * row + 20, 20 * column : 20 * column + 20] = True
    return mask


def embeddings_by_hand(patches: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Return the unit embeddings of the tiny image and caption with some of their units, from the model's modules."""
    model = tiny.model("clip")
    table, image, text = tiny_table("occlusion")
    pixels = image.inputs.values
    size = pixels.shape[-1] // image.units.columns
    masks = patches.unflatten(1, (image.units.rows, image.units.columns))
    masks = masks.repeat_interleave(size, 1).repeat_interleave(size, 2)[:, None]
    with torch.no_grad():
        seen = model.module.get_image_features(pixel_values=pixels * masks)
        seen = getattr(seen, "pooler_output", seen)
        captions = []
        for row in words:
            keep = torch.ones(1, text.units.explained.shape[1])
            for place, word in enumerate(table.words):
                keep[0, list(word.tokens)] = row[place]
            with model.text.blend_to_padding(keep):
                captions.append(model.text.encode(text.inputs)[0])
    return F.normalize(seen, dim=-1), F.normalize(torch.stack(captions), dim=-1)
