"""The word-region table of ``fixlip``: a regression over the coalitions of both sides.

The model of the cosine of a partly visible image and caption has a coefficient for each unit, for each pair of units of
one side, and for each pair of a word and a patch; the last are the table.
"""

from dataclasses import dataclass

import numpy as np
import torch

from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid, Segments, Units, Words
from nibt.engine.jacobians import part_masks
from nibt.engine.spec import ExplanationSpec
from nibt.engine.table_scores import TableScores
from nibt.errors import BadOption
from nibt.methods._checks import generator
from nibt.methods._coalitions import RCOND, Coalitions, Weights, centered_monomials
from nibt.methods._units import keep_players, share_equally
from nibt.methods.fixlip import FIxLIP

MOST = 4000
"""The largest number of coefficients of a regression."""
_ROWS = 4096  # pairs whose features are held at once


def regression_table(spec: ExplanationSpec, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of one pair."""
    sides = image.embedded(), text.embedded()
    methods = [method for method in (spec.methods["image"], spec.methods["text"]) if isinstance(method, FIxLIP)]
    units = [method.units_of(side) for method, side in zip(methods, sides, strict=True)]
    (patches, players) = (method.players(own, 1)[0] for method, own in zip(methods, units, strict=True))
    _check_size(len(patches), len(players))
    games = [_game(side, own, method, methods[0]) for side, own, method in zip(sides, units, methods, strict=True)]
    table = torch.from_numpy(cross_coefficients(games[0], games[1], methods[0].pairs == "all")).float()
    by_token = share_equally(table.T, players, units[1].count)
    masks = part_masks([word.tokens for word in words.words[0]], len(by_token))
    grid, rows = units[0], masks @ by_token
    if isinstance(grid, Segments):
        rows, grid = grid.on_grid(rows.T[None])[0].T, grid.grid
    assert isinstance(grid, Grid)
    changes = [
        side.value()[0] - method.nothing(side, own)[0] for side, own, method in zip(sides, units, methods, strict=True)
    ]
    scores = torch.cat([rows, torch.zeros(len(rows), 1, dtype=torch.float32, device="cpu")], 1)
    return TableScores(scores, grid.bare(), float(changes[0] @ changes[1]))


@dataclass(frozen=True)
class Game:
    """The coalitions of one side.

    Attributes:
        shown: Which units each coalition keeps: (coalition, unit).
        weights: The weights of the coalitions.
        embeddings: Their unit embeddings: (coalition, dim).
        share: The probability with which units are kept.

    """

    shown: Coalitions
    weights: Weights
    embeddings: np.ndarray
    share: float

    def features(self) -> np.ndarray:
        """Return the features of the units of this side and of their pairs."""
        return centered_monomials(self.shown, self.share)


def _game(side: Side, units: Units | Segments, method: FIxLIP, first: FIxLIP) -> Game:
    """Evaluate the coalitions of a side; drawn pairs are as many as the budget of the first side."""
    (players,) = method.players(units, 1)
    if first.pairs == "all":
        shown, weights = method.coalitions(len(players))
    else:
        place = 0 if side.tower.modality == "image" else 1
        shown = generator(method.seed, place).random((first.budget, len(players))) < method.share
        weights = np.full(len(shown), 1 / len(shown))
    keep = keep_players(shown, players, units.count)[:, None]
    embeddings = masker(side, units)(keep.to(side.tower.example.device))[:, 0].cpu().double().numpy()
    return Game(shown, weights, embeddings, method.share)


def cross_coefficients(image: Game, text: Game, all_pairs: bool) -> np.ndarray:
    """Fit the model of order two to the cosines of pairs, and return the coefficients across sides: (patch, word)."""
    if all_pairs:
        rows, columns = (index.flatten() for index in np.indices((len(image.shown), len(text.shown))))
    else:
        rows = columns = np.arange(len(image.shown))
    sides = image.features(), text.features()
    first = image.shown - image.share, text.shown - text.share
    count = first[0].shape[1] * first[1].shape[1]
    gram, target = 0.0, 0.0
    for part in (slice(start, start + _ROWS) for start in range(0, len(rows), _ROWS)):
        one, other = rows[part], columns[part]
        crossed = np.einsum("ri,rj->rij", first[0][one], first[1][other]).reshape(len(one), -1)
        features = np.concatenate([np.ones((len(one), 1)), sides[0][one], sides[1][other], crossed], 1)
        weights = image.weights[one] * (text.weights[other] if all_pairs else 1.0)
        scores = (image.embeddings[one] * text.embeddings[other]).sum(1)
        gram = gram + features.T @ (weights[:, None] * features)
        target = target + features.T @ (weights * scores)
    coefficients = np.linalg.pinv(gram, rcond=RCOND, hermitian=True) @ target
    return coefficients[-count:].reshape(first[0].shape[1], first[1].shape[1])


def _check_size(patches: int, words: int) -> None:
    count = (patches + words + 1) * (patches + words) // 2 + 1
    if count > MOST:
        raise BadOption(
            f"fixlip fits at most {MOST} coefficients (got {patches} units of the image and {words} of the caption, "
            f"which have {count}): choose banzhaf, which has the same table without this limit"
        )
