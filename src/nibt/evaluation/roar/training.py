"""Training with CLIP's symmetric contrastive loss (Radford et al., 2021), and the loss of each validation pair."""

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
    """Return which captions of other pairs also fit an image, so that they are not negatives of it.

    They equal its caption up to case and spaces, are of the same image, or name only objects that are in the image.
    """
    captions = np.array([" ".join(pair.caption.split()).casefold() for pair in pairs])
    pixels = np.array([hash((pair.image.size, pair.image.pil_image.tobytes())) for pair in pairs])
    same = (captions[:, None] == captions) | (pixels[:, None] == pixels)
    present = [{item.name for item in pair.objects} for pair in pairs]
    named = [{item.name for item in pair.objects if item.spans} if not pair.absent else set() for pair in pairs]
    fits = np.array([[bool(names) and names <= objects for names in named] for objects in present])
    return (same | fits) & ~np.eye(len(pairs), dtype=bool)


def split(count: int, settings: Settings, repeat: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted indices of the training pairs and of the validation pairs."""
    order = np.random.default_rng((settings.seed, repeat, _SPLIT)).permutation(count)
    edge = max(2, round(count * settings.validation / 100))
    return np.sort(order[edge:]), np.sort(order[:edge])


def losses(
    image: Float[Tensor, "pair dim"], text: Float[Tensor, "pair dim"], scale: float, fits: Bool[Tensor, "pair pair"]
) -> Float[Tensor, " pair"]:
    """Return the loss of each pair: the mean of the cross-entropies over captions and over images."""
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    logits = (scale * cosines).masked_fill(fits, -torch.inf)
    labels = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, labels, reduction="none") + F.cross_entropy(logits.T, labels, reduction="none")) / 2


def untrained(trainer: Trainer, untouched: Sources, fits: np.ndarray, settings: Settings, repeat: int) -> list[float]:
    """Return the losses of the untouched validation pairs before training."""
    trainer.begin(_fresh(settings, repeat))
    check = split(len(fits), settings, repeat)[1]
    with torch.no_grad():
        return _losses(trainer, untouched, check, fits, settings.batch_size).tolist()


def trained(
    trainer: Trainer, reduced: Sources, untouched: Sources, fits: np.ndarray, settings: Settings, repeat: int
) -> list[float]:
    """Train, and return the losses of the untouched validation pairs."""
    train, check = split(len(fits), settings, repeat)
    trainer.begin(_fresh(settings, repeat))
    optimizer = torch.optim.Adam(trainer.parameters, lr=settings.learning_rates[trainer.name])
    with torch.enable_grad():
        for rows in _batches(train, settings, repeat):
            optimizer.zero_grad()
            _losses(trainer, reduced, rows, fits, len(rows)).mean().backward()
            optimizer.step()
    with torch.no_grad():
        result = _losses(trainer, untouched, check, fits, settings.batch_size).tolist()
    if not np.isfinite(result).all():
        raise BadOption(
            f"training {trainer.name} diverged (its loss is not finite): choose a smaller learning rate "
            f"than {settings.learning_rates[trainer.name]:g}"
        )
    return result


def _fresh(settings: Settings, repeat: int) -> torch.Generator | None:
    """Return the generator of untrained heads, if training starts from them: the same for all trainings of a repeat."""
    if settings.init != "fresh":
        return None
    seed = np.random.default_rng((settings.seed, repeat, _START)).integers(2**62)
    return torch.Generator().manual_seed(int(seed))


def _batches(train: np.ndarray, settings: Settings, repeat: int) -> Iterator[np.ndarray]:
    """Yield batches of nearly equal size, in another order in each epoch; the same for all trainings of a repeat."""
    draws = np.random.default_rng((settings.seed, repeat, _ORDER))
    for _ in range(settings.epochs):
        yield from np.array_split(draws.permutation(train), -(-len(train) // settings.batch_size))


def _losses(
    trainer: Trainer, sources: Sources, rows: np.ndarray, fits: np.ndarray, size: int
) -> Float[Tensor, " pair"]:
    """Return the losses of pairs as a single batch, whose embeddings are computed in batches of a size."""
    batches = np.array_split(rows, -(-len(rows) // max(size, 2)))
    image, text = (
        torch.cat([trainer.embed(side, sources[side], batch.tolist()) for batch in batches]) for side in SIDES
    )
    return losses(image, text, trainer.model.scale, torch.from_numpy(fits[np.ix_(rows, rows)]).to(image.device))
