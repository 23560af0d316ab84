"""The similarity of an image and a caption as a game of shapiq, and tables of words and patches as its interactions."""

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from shapiq import Game, InteractionValues

from nibt.core.perturbation import embeddings_with_words, masker
from nibt.core.side import Side
from nibt.data.images import ImageSource, read_image
from nibt.data.units import Grid, Words
from nibt.errors import BadInput, Unsupported
from nibt.models._loading import ModelSource, load_model
from nibt.results.regions import Regions, Rest
from nibt.torch_modes import plain_torch

_CHUNK = 64  # coalitions whose similarities are compared together


class SimilarityGame(Game):
    """The similarity of a pair whose patches and words are removed. The players are all patches, and then all words.

    As games of shapiq are, it is normalized: the similarity without any player is subtracted. Patches are replaced by
    the mean color, words by padding, as in ``shapley`` and ``fixlip``.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: The image.
        caption: The caption.

    Attributes:
        patches: The number of patches.
        words: The words.

    Raises:
        Unsupported: The model compares sets of vectors.

    Examples:
        >>> game = SimilarityGame("scenes", "sample:scene", "a cat and a house")
        >>> game.patches, game.words, game.n_players
        (64, ('a', 'cat', 'and', 'a', 'house'), 69)
    """

    @plain_torch()
    def __init__(self, model: ModelSource, image: ImageSource, caption: str) -> None:
        loaded = load_model(model)
        if loaded.item_ndim != 1:
            raise Unsupported(f"only models with one vector for an image have a game (got {loaded.id}): use explain")

        self._model = loaded
        self._weights = loaded.weights_hash
        inputs = loaded.image.prepare([read_image(image)]), loaded.text.prepare([caption])
        self._image, self._text = (
            Side(loaded, tower.trace(prepared), lambda embedding: embedding).embedded()
            for tower, prepared in zip(loaded.towers, inputs, strict=True)
        )
        grid = self._image.units
        words = self._text.units
        assert isinstance(grid, Grid)
        assert isinstance(words, Words)
        self.patches = grid.count
        self._words = words.words[0]
        self.words = tuple(word.text for word in self._words)
        names = [f"patch {number}" for number in range(self.patches)]
        names += [f"{number} {text}" for number, text in enumerate(self.words)]
        empty = float(self.value_function(np.zeros((1, len(names)), bool))[0])
        super().__init__(len(names), normalization_value=empty, player_names=names)

    @plain_torch()
    def value_function(self, coalitions: Bool[np.ndarray, "coalition player"]) -> Float[np.ndarray, " coalition"]:
        """Compute the similarity of each coalition; equal parts of coalitions go through the towers once.

        Raises:
            BadInput: Coalitions are not a table of true and false, or 1 and 0, with a column per player, or the weights
                of the model were changed.
        """
        table = np.asarray(coalitions)
        players = self.patches + len(self.words)
        if table.ndim != 2 or table.shape[1] != players or not np.isin(table, (0, 1)).all():
            raise BadInput(
                f"coalitions must be a table of true and false, (coalition, {players}) (got {table.dtype} of "
                f"{' x '.join(map(str, table.shape))}, or other values than 0 and 1)"
            )
        if self._model.weights_hash != self._weights:
            raise BadInput("the weights of the model were changed since this game was made: make a new game")

        compare = self._model.seen_from("image")
        of_image, of_text = np.split(table.astype(bool), [self.patches], 1)
        images, image_rows = np.unique(of_image, axis=0, return_inverse=True)
        texts, text_rows = np.unique(of_text, axis=0, return_inverse=True)
        device = self._image.tower.example.device
        keep = torch.from_numpy(images).float()[:, None].to(device)
        u = masker(self._image, self._image.units)(keep)[:, 0]
        v = embeddings_with_words(self._text, self._words, torch.from_numpy(texts).float())
        pairs = zip(torch.as_tensor(image_rows).split(_CHUNK), torch.as_tensor(text_rows).split(_CHUNK), strict=True)
        return torch.cat([compare(u[first], v[second]) for first, second in pairs]).cpu().double().numpy()


def to_interactions(regions: Regions) -> InteractionValues:
    """Return the table of words and patches as interactions of order two.

    The players are those of ``SimilarityGame``: all patches, and then all words of the table. Pairs of the same side
    have no interaction in a table.
    """
    words = regions.table.shape[0]
    patches = regions.table[0].numel()
    scores = regions.table.flatten(1).double().numpy()
    pairs = {(patch, patches + word): float(scores[word, patch]) for word in range(words) for patch in range(patches)}
    count = patches + words
    return InteractionValues(pairs, index="FBII", max_order=2, min_order=2, n_players=count, estimated=True)


def from_interactions(values: InteractionValues, regions: Regions) -> Regions:
    """Return a table whose scores are the interactions of patches and words, for pictures and metrics of nibt.

    Args:
        values: Interactions of the game of the same pair, which have order two.
        regions: A table of the same pair, whose scores are replaced.

    Raises:
        BadInput: The number of players is another one, or values are not finite, of other players or not of order two.
    """
    words, rows, columns = regions.table.shape
    if values.n_players != rows * columns + words:
        raise BadInput(
            f"values must have {rows * columns} patches and {words} words as players (got {values.n_players} players): "
            "a table with one view, nibt.regions(..., views=1), has the patches of the model"
        )

    wrong = [
        players
        for players, value in values.interactions.items()
        if not set(players) <= set(range(values.n_players)) or not math.isfinite(value)
    ]
    if wrong or max(map(len, values.interactions), default=0) < 2:
        raise BadInput(
            f"values must have finite interactions of order two, of the players 0 to {values.n_players - 1} (got "
            f"{f'{values.interactions[wrong[0]]} for {wrong[0]}' if wrong else f'{values.index} without pairs'})"
        )

    table = torch.zeros(words, rows * columns, dtype=torch.float32, device="cpu")
    for players, value in values.interactions.items():
        if len(players) == 2 and players[0] < rows * columns <= players[1]:
            table[players[1] - rows * columns, players[0]] = float(value)

    method = {**regions.method, "name": f"shapiq {values.index}", "variant": "default"}
    scores = table.unflatten(1, (rows, columns))
    rest = Rest(*(torch.zeros_like(sums) for sums in (regions.rest.image, regions.rest.text, regions.rest.both)))
    return replace(regions, table=scores, rest=rest, method=method, product=float(table.sum()))
