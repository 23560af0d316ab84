r"""FIxLIP: a score for each unit and each pair of units, fitted by least squares (Baniecki et al., NeurIPS 2025).

$$S(\text{coalition}) = e_0 + \sum_i e_i x_i + \sum_{i<k} e_{ik} x_i x_k$$

A *coalition* is a set of units that are kept; the others are removed. $x_i$ is 1 if unit $i$ is kept, else 0. Units are
kept independently with the probability ``share``; with 0.5 and ``pairs=all``, each coalition is drawn together with its
complement. The score of a unit is its mean effect, as with ``banzhaf``. In a words x patches table, the units of both
sides are fitted together, and an entry is the coefficient $e_{ik}$ of a word and a patch.

With ``pairs=all``, and if each side has more coalitions than units, the table equals that of ``banzhaf``. The variant
``paper`` keeps and removes single tokens instead of words.

Shows:
    Which words and patches, and which pairs of them, raise the target, according to a fitted sum of their scores.

Use it when:
    You compare with the published method, or want to check that ``banzhaf``, which is faster, has the same table.

Avoid it when:
    The image has many units: 64 patches have 2,016 pairs, each with a coefficient, so the fit is slow. With another
    ``share`` than 0.5, it also needs more coalitions than coefficients.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch

from nibt.core.perturbation import generator, masker
from nibt.core.side import Side
from nibt.data.units import Grid, Segments, Units, Words
from nibt.errors import BadOption
from nibt.methods._coalitions import (
    RCOND,
    Coalitions,
    ShareCoalitionMethod,
    Values,
    Weights,
    centered_monomials,
    independent_draws,
    least_squares,
)
from nibt.methods._errors import Regression
from nibt.methods._unit_vectors import part_masks
from nibt.methods._units import keep_players, share_equally
from nibt.methods._vectors import TableScores
from nibt.methods.base import Method
from nibt.options import Either

MOST_FEATURES = 200_000_000
"""The largest number of features of all coalitions: 1.6 GB."""
MOST_COEFFICIENTS = 4000
"""The largest number of coefficients of the regression of a table."""
_ROWS = 4096  # pairs whose features are held at once


@dataclass(frozen=True)
class FIxLIP(ShareCoalitionMethod):
    """The coefficients of a model of order two.

    Args:
        budget: The number of coalitions of each side.
        pairs: The data of the fit of a table: ``all`` takes every combination of a coalition of the image with one of
            the caption. ``drawn`` takes as many random combinations as the ``budget`` of the image, each with a forward
            pass of both sides.
    """

    paper = "Baniecki et al., NeurIPS 2025, arXiv 2508.05430"
    cost = "1 + budget"
    variants: ClassVar = {"default": {"image": {}, "text": {}}, "paper": {"image": {}, "text": {"units": "tower"}}}

    pairs: Annotated[str, Either(("all", "drawn"))] = "all"

    def coalitions(self, players: int) -> tuple[Coalitions, Weights]:
        features = players * (players + 1) // 2
        if features * min(self.budget, 2**players) > MOST_FEATURES:
            raise BadOption(
                f"fixlip has {features:,} features for each coalition of {players:,} units, and budget times features "
                f"must be at most {MOST_FEATURES:,} (got a budget of {self.budget:,}): choose banzhaf, or fewer units "
                "or coalitions"
            )
        return super().coalitions(players)

    def fit(self, coalitions: Coalitions, weights: Weights, values: Values, full: np.ndarray | float) -> np.ndarray:
        features = centered_monomials(coalitions, self.share)
        return least_squares(features, weights, values)[: coalitions.shape[1]]

    def regression(self, coalitions: Coalitions, values: Values, full: np.ndarray | float) -> Regression:
        features = centered_monomials(coalitions, self.share)
        return independent_draws(features, values, coalitions.shape[1], self.share)

    def table(self, image: Side, text: Side, words: Words, of_text: Method) -> TableScores:
        assert isinstance(of_text, FIxLIP)
        self.check_target()
        seen = image.embedded()
        read = text.embedded()
        budget = None if self.pairs == "all" else self.budget
        cells = self.units_of(seen)
        tokens = of_text.units_of(read)
        (patches,), (players,) = self.players(cells, 1), of_text.players(tokens, 1)
        units = len(patches) + len(players)
        count = (units + 1) * units // 2 + 1
        if count > MOST_COEFFICIENTS:
            raise BadOption(
                f"fixlip fits at most {MOST_COEFFICIENTS} coefficients (got {len(patches)} units of the image and "
                f"{len(players)} of the caption, which have {count}): choose banzhaf, which has the same table without "
                "this limit"
            )

        games = _game(seen, cells, self, budget), _game(read, tokens, of_text, budget)
        table = torch.from_numpy(cross_coefficients(*games, budget is None)).float()
        by_token = share_equally(table.T, players, tokens.count)
        masks = part_masks([word.tokens for word in words.words[0]], len(by_token))
        grid = cells
        rows = masks @ by_token
        if isinstance(grid, Segments):
            rows = grid.on_grid(rows.T[None])[0].T
            grid = grid.grid

        assert isinstance(grid, Grid)
        of_image = seen.value()[0] - self.nothing(seen, cells)[0]
        of_words = read.value()[0] - of_text.nothing(read, tokens)[0]
        scores = torch.cat([rows, torch.zeros(len(rows), 1, dtype=torch.float32, device="cpu")], 1)
        return TableScores(scores, grid.bare(), float(of_image @ of_words))


@dataclass(frozen=True)
class Game:
    """The coalitions of one side, their weights and unit embeddings, and the probability that a unit is kept."""

    coalitions: Coalitions
    weights: Weights
    embeddings: np.ndarray
    share: float


def _game(side: Side, units: Units | Segments, method: FIxLIP, budget: int | None) -> Game:
    """Evaluate the coalitions of a side: those of the method, or as many as there are drawn pairs of both sides."""
    (players,) = method.players(units, 1)
    if budget is None:
        coalitions, weights = method.coalitions(len(players))
    else:
        place = 0 if side.tower.modality == "image" else 1
        coalitions = generator(method.seed, place).random((budget, len(players))) < method.share
        weights = np.full(len(coalitions), 1 / len(coalitions))

    keep = keep_players(coalitions, players, units.count)[:, None]
    embeddings = masker(side, units)(keep.to(side.tower.example.device))[:, 0].cpu().double().numpy()
    return Game(coalitions, weights, embeddings, method.share)


def cross_coefficients(image: Game, text: Game, all_pairs: bool) -> np.ndarray:
    """Fit the model of order two to the cosines of pairs, and return the coefficients across sides: (patch, word)."""
    if all_pairs:
        rows, columns = (index.flatten() for index in np.indices((len(image.coalitions), len(text.coalitions))))
    else:
        rows = columns = np.arange(len(image.coalitions))

    sides = [centered_monomials(game.coalitions, game.share) for game in (image, text)]
    first = [game.coalitions - game.share for game in (image, text)]
    count = first[0].shape[1] * first[1].shape[1]
    gram = 0.0
    target = 0.0
    for chunk in (slice(start, start + _ROWS) for start in range(0, len(rows), _ROWS)):
        seen = rows[chunk]
        read = columns[chunk]
        crossed = np.einsum("ri,rj->rij", first[0][seen], first[1][read]).reshape(len(seen), -1)
        features = np.concatenate([np.ones((len(seen), 1)), sides[0][seen], sides[1][read], crossed], 1)
        weights = image.weights[seen] * (text.weights[read] if all_pairs else 1.0)
        scores = (image.embeddings[seen] * text.embeddings[read]).sum(1)
        gram = gram + features.T @ (weights[:, None] * features)
        target = target + features.T @ (weights * scores)

    coefficients = np.linalg.pinv(gram, rcond=RCOND, hermitian=True) @ target
    return coefficients[-count:].reshape(first[0].shape[1], first[1].shape[1])
