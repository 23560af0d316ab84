"""Fine-tuning with CLIP's symmetric contrastive loss (Radford et al., 2021), and the loss of each validating pair."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.pair import Pair
from nibt.errors import BadOption
from nibt.evaluation.roar.settings import Settings
from nibt.evaluation.roar.trainers import Trainer
from nibt.methods.base import SIDES
from nibt.types import Modality

Sources = dict[Modality, Any]
_SPLIT, _ORDER, _START = 0, 1, 2


def fitting(pairs: Sequence[Pair]) -> Bool[np.ndarray, "image caption"]:
    """Which captions of other pairs fit an image, too, so that they are no negatives of it: those that are the same as
    its own but for case and spaces; those of the same image; and, where objects are known, those that name nothing
    but what the image shows.
    """
    said = np.array([" ".join(pair.caption.split()).casefold() for pair in pairs])
    shown = np.array([hash((pair.image.size, pair.image.pil_image.tobytes())) for pair in pairs])
    same = (said[:, None] == said) | (shown[:, None] == shown)
    there = [{thing.name for thing in pair.objects} for pair in pairs]
    named = [{thing.name for thing in pair.objects if thing.spans} if not pair.absent else set() for pair in pairs]
    told = np.array([[bool(some) and some <= objects for some in named] for objects in there])
    return (same | told) & ~np.eye(len(pairs), dtype=bool)


def split(count: int, settings: Settings, repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the pairs that train, and of those that validate, in order."""
    order = np.random.default_rng((settings.seed, repeat, _SPLIT)).permutation(count)
    edge = max(2, round(count * settings.validation / 100))
    return np.sort(order[edge:]), np.sort(order[:edge])


def losses(
    image: Float[Tensor, "pair dim"], text: Float[Tensor, "pair dim"], scale: float, fits: Bool[Tensor, "pair pair"]
) -> Float[Tensor, " pair"]:
    """For each pair the mean of two cross-entropies: its caption among the captions, its image among the images;
    what fits, too, is left out of both.
    """
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    logits = (scale * cosines).masked_fill(fits, -torch.inf)
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own, reduction="none") + F.cross_entropy(logits.T, own, reduction="none")) / 2


def untrained(form: Trainer, untouched: Sources, fits: np.ndarray, settings: Settings, repeat: int) -> list[float]:
    """The losses of the validating pairs, untouched, where training starts."""
    form.begin(_fresh(settings, repeat) if settings.start == "fresh" else None)
    return _validated(form, untouched, split(len(fits), settings, repeat)[1], fits, settings)


def trained(
    form: Trainer, fed: Sources, untouched: Sources, fits: np.ndarray, settings: Settings, repeat: int
) -> list[float]:
    """The losses of the validating pairs, untouched, after training on the others as they are ``fed``.

    Raises:
        BadOption: The loss is no longer a number.

    """
    train, check = split(len(fits), settings, repeat)
    form.begin(_fresh(settings, repeat) if settings.start == "fresh" else None)
    optimiser = torch.optim.Adam(form.parameters, lr=settings.rates[form.name])
    with torch.enable_grad():
        for rows in _batches(train, settings, repeat):
            optimiser.zero_grad()
            _loss(form, fed, rows, fits).mean().backward()
            optimiser.step()
    found = _validated(form, untouched, check, fits, settings)
    if not np.isfinite(found).all():
        raise BadOption(
            f"training in the form {form.name} came apart (its loss is no number): choose a smaller rate "
            f"than {settings.rates[form.name]:g}"
        )
    return found


def _fresh(settings: Settings, repeat: int) -> torch.Generator:
    """What heads that know nothing are drawn by; the same for all that is trained of a repeat."""
    seed = np.random.default_rng((settings.seed, repeat, _START)).integers(2**62)
    return torch.Generator().manual_seed(int(seed))


def _batches(train: np.ndarray, settings: Settings, repeat: int) -> Iterator[np.ndarray]:
    """Batches of nearly the same size, in another order in each epoch; the same for all that is trained of a repeat."""
    draws = np.random.default_rng((settings.seed, repeat, _ORDER))
    for _ in range(settings.epochs):
        yield from np.array_split(draws.permutation(train), -(-len(train) // settings.batch_size))


def _loss(form: Trainer, sources: Sources, rows: np.ndarray, fits: np.ndarray) -> Float[Tensor, " pair"]:
    image, text = (form.embed(side, sources[side], rows.tolist()) for side in SIDES)
    return losses(image, text, form.model.scale, torch.from_numpy(fits[np.ix_(rows, rows)]).to(image.device))


def _validated(form: Trainer, sources: Sources, rows: np.ndarray, fits: np.ndarray, settings: Settings) -> list[float]:
    """The validating pairs, all against all."""
    parts = np.array_split(rows, -(-len(rows) // max(settings.batch_size, 2)))
    with torch.no_grad():
        image, text = (torch.cat([form.embed(side, sources[side], part.tolist()) for part in parts]) for side in SIDES)
        found = losses(image, text, form.model.scale, torch.from_numpy(fits[np.ix_(rows, rows)]).to(image.device))
    return found.double().tolist()
