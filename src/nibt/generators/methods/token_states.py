"""Methods that read what each token of the last layers, or each vector, stands for by itself."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from nibt.core.side import Side
from nibt.data.units import Grid, SequenceUnits
from nibt.generators.answers import AnswerTower
from nibt.methods.base import LayerMethod, Method
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class LogitLens(LayerMethod, name="logit_lens"):
    r"""The logit lens (nostalgebraist, 2020), for answers of generators.

    $$\text{score}_t = \text{softmax}(\text{logits of the state of token } t)_y$$

    $y$ is the first token of the word. The decoder's head computes the logits from the state of each token alone.

    Shows:
        At which patches and earlier words the model would already write this word, if its head read the states of these
        tokens.

    Use it when:
        You want a map without a gradient, or compare with publications on generators, where it is a common baseline.

    Avoid it when:
        You need signs or scores that add up: the scores are probabilities.
    """

    paper = "nostalgebraist, 2020, interpreting GPT: the logit lens"
    category = "other"
    cost = "1"
    needs = ("answer",)
    signed = False
    layer_leaves_block = True
    variants: ClassVar = {"default": {"image": {"layer": 0.99}, "text": {"layer": 0.99}}}

    def attribute(self, side: Side) -> Attribution:
        tower = side.tower
        targets = side.inputs.extra["targets"][:, :1]
        assert isinstance(tower, AnswerTower)
        maps = []
        with torch.no_grad(), tower.computing():
            for layer in self.layer:
                shares = tower.logits(tower.last_states(side.cut(layer).hidden)).softmax(-1)
                maps.append(shares.gather(-1, targets[:, :, None].expand(-1, shares.shape[1], 1))[..., 0])

        return Attribution.of_rows(torch.stack(maps).mean(0), side.units)


_SIDE = 3  # of the window of the filter


@dataclass(frozen=True)
class TokenActivationMap(Method, name="tam"):
    r"""Token Activation Maps (Li et al., ICCV 2025, arXiv 2506.23270), for answers of generators.

    $$\text{map} = F(\text{relu}(a_y - s \sum_j w_j a_j))$$

    The *activation* of a patch or of an earlier token for a token $y$ is the logit of $y$ that the model computes from
    its last hidden state, or 0 if the logit is negative. $a_y$ are the activations of the patches for $y$, the first
    token of the word. $a_j$ are those for the $j$-th token before it, in the prompt or in the answer; tokens that equal
    $y$ are left out. The weight $w_j$ is the activation of this earlier token for $y$, divided by the sum of these
    activations. The weight of a token of the answer is computed from the state of the token before it, which predicts
    it. $\sum_j w_j a_j$ estimates the part of the map that is due to earlier tokens. $s$ scales this sum to fit $a_y$
    by least squares. All tokens before the word are used, even if only some [sources](../../explanation/glossary.md)
    are explained.

    The scores of earlier words are their activations for $y$. Before $F$, these and the scores of the patches are
    scaled to [0, 1] by their common minimum and maximum. $F$ smooths the map: a score becomes a weighted mean of the
    nine scores of the 3 x 3 patches around it. The weight of the $n$-th smallest of the nine is a Gaussian of $n - 5$,
    whose standard deviation is that of the nine scores, divided by their mean.

    For two tokens, the program of Li et al. uses the logits of another token:

    | earlier token | nibt uses the logits of | the program of Li et al. uses the logits of |
    |---|---|---|
    | the first token of the prompt | this token | the token that the model would most probably write after it |
    | the first token of the answer, if a later word is explained | this token | the last token of the prompt |

    Shows:
        At which patches the logit of the word is high, after the part that is due to earlier words is subtracted.

    Use it when:
        You compare with publications on generators, or want a map for the cost of one forward pass.

    Avoid it when:
        You need signs or scores that add up.
    """

    paper = "Li et al., ICCV 2025, arXiv 2506.23270"
    category = "other"
    cost = "1"
    needs = ("answer",)
    signed = False

    def attribute(self, side: Side) -> Attribution:
        tower = side.tower
        units = side.units
        assert isinstance(tower, AnswerTower)
        assert isinstance(units, SequenceUnits)
        hidden = side.cut(tower.depth).hidden
        with torch.no_grad(), tower.computing():
            logits = tower.logits(tower.last_states(hidden[:1]))[0].float().cpu()
        ids = side.inputs.extra["input_ids"][0].cpu()
        grid = units.grid
        ids = F.pad(ids, (len(logits) - len(ids), 0))  # after rows of the image without ids
        scores = torch.zeros(len(hidden), units.count, dtype=torch.float32, device="cpu")
        for item in range(len(hidden)):
            target = int(side.inputs.extra["targets"][item, 0])
            before = side.inputs.extra["context"][item].nonzero()[:, 0].tolist()
            cells, rows = _activations(
                logits, ids, grid=grid, target=target, before=before, start=int(side.inputs.extra["start"][item])
            )
            everything = torch.cat([cells, rows])
            low = everything.min()
            high = everything.max()
            everything = (everything - low) / (high - low).clamp_min(1e-30)
            scores[item, : grid.count] = _filtered(grid.unfold(everything[: grid.count])).flatten()
            scores[item, [grid.count + row for row in before]] = everything[grid.count :]

        return Attribution(scores.to(hidden.device), units, scores.new_zeros(len(scores)))


def _activations(
    logits: Float[Tensor, "row vocabulary"],
    ids: Int[Tensor, " row"],
    grid: Grid,
    target: int,
    before: list[int],
    start: int,
) -> tuple[Float[Tensor, " cell"], Float[Tensor, " before"]]:
    """Return the map of a token without the interference of the tokens before, and the activations of these tokens."""

    def activations(token: int) -> Float[Tensor, " row"]:
        return logits[:, token].clamp_min(0)

    of_target = activations(target)
    cells = grid.keep(of_target[None])[0]
    # a token of the answer, which begins at the row ``start``, is represented by the row that predicts it
    weights = of_target[[row - (row >= start) for row in before]]
    others = [place for place, row in enumerate(before) if int(ids[row]) != target]
    if others:
        maps = torch.stack([grid.keep(activations(int(ids[before[place]]))[None])[0] for place in others])
        shares = weights[others] / (weights[others].sum() + 1e-8)
        interference = (maps * shares[:, None]).sum(0)
        scale = (cells * interference).sum() / interference.square().sum().clamp_min(1e-30)
        cells = (cells - scale * interference).clamp_min(0)

    return cells, weights


def _filtered(cells: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    """Return the mean over each window, weighted by a Gaussian over the ranks of its values."""
    padded = np.pad(cells.numpy(), _SIDE // 2, mode="reflect")
    windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, (_SIDE, _SIDE)).reshape(*cells.shape, -1), -1)
    mean = windows.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        ranks = np.arange(_SIDE**2) - _SIDE**2 // 2
        weights = np.exp(-(ranks**2) / (2 * (windows.std(-1, keepdims=True) / mean) ** 2))
        values = (windows * weights).sum(-1) / weights.sum(-1)

    return torch.from_numpy(np.where(mean[..., 0] > 0, np.nan_to_num(values, nan=0.0), 0.0)).float()
