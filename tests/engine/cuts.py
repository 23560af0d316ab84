"""Cuts of tiny models, and the contributions of their rows."""

import torch

import nibt
from nibt.core.path_derivatives import normalized
from nibt.models._inputs import Cut
from nibt.models.base import Model
from nibt.results.regions import Regions
from tests import tiny

CAPTION = tiny.CAPTIONS[0]


def table(kind: str = "clip", **options: object) -> Regions:
    answer = nibt.regions(tiny.model(kind), tiny.image(), CAPTION, **options)
    assert isinstance(answer, Regions)
    return answer


def cut_of(model: Model, modality: str, layer: int = 1) -> tuple[Cut, torch.Tensor]:
    tower = model.tower(modality)  # pyright: ignore
    trace = tower.trace(tower.prepare([tiny.image()] if modality == "image" else [CAPTION]))
    return normalized(trace.cut(layer)), tower.blank(trace.inputs, layer)


def change(cut: Cut, start: torch.Tensor) -> torch.Tensor:
    """Return the change of the unit embedding from a baseline to the state itself."""
    with torch.no_grad():
        after, before = cut.rest(torch.stack([cut.hidden, start]))
    return after - before


def shares(cut: Cut, start: torch.Tensor) -> torch.Tensor:
    """Return a direction for each token row."""
    count = cut.hidden.shape[1]
    return torch.eye(count)[:, None, :, None] * (cut.hidden - start)
