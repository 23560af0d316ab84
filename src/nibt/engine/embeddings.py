"""NIB for many captions of one image: maps of a batch of embeddings, and contributions for any caption."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialized
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.data.images import ImageSource, read_image
from nibt.data.pair import Caption, as_list, modality, read_caption
from nibt.data.units import Grid, Words, special_share
from nibt.engine.encode import encode
from nibt.engine.jacobians import SidePaths, most_steps, scores, vectors
from nibt.engine.spec import baseline_by_side, resolve
from nibt.errors import BadInput, Unsupported
from nibt.methods.base import MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.outputs import sorted_header, unsigned, write_bytes
from nibt.results.attribution import Attribution, PathSummary
from nibt.torch_modes import plain_torch
from nibt.values import ByValue

_KIND = "nibt contributions"


@plain_torch()
def explain_embeddings(
    model: Model | str | Path | nn.Module,
    item: ImageSource | Caption,
    embeddings: Tensor,
    *,
    variant: str = "default",
    **options: Any,
) -> Attribution:
    """Compute NIB's maps of one image for the embeddings of many captions, or of one caption for many images.

    The maps equal those of ``explain`` with the target ``cosine``, to 1e-5. The forward passes along the path are
    shared by all embeddings. They are followed by a backward pass per embedding or a forward pass per token, whichever
    is cheaper.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        item: An image or a ``Caption``.
        embeddings: The embeddings of the other side, (many, dim). Their lengths do not matter.
        variant: A variant of the method ``nib``.
        **options: Options of the method ``nib``.

    Returns:
        A batch of maps, one per embedding.

    Raises:
        BadInput: The image or the caption cannot be read, or an embedding has a wrong shape, is zero or not finite.
        UnknownName: No variant or option has that name.
        BadOption: An option has an invalid value.

    """
    model = load_model(model)
    _check_one_vector(model)
    own = read_caption(item) if isinstance(item, Caption) else read_image(item)
    side = modality(own)
    spec = resolve(model, MethodSpec("nib", variant, baseline_by_side(options, [side])))
    method, tower = spec.nib(side), model.tower(side)
    trace = tower.trace(tower.prepare([own]), min(method.layer))
    aim = _checked(embeddings, trace.embedding)
    paths = SidePaths.of(Side(model, trace, lambda embedding: embedding.norm(dim=-1)), method)  # the score is not used
    by_view = paths.integrate(lambda layer: scores(layer, aim, aim @ layer.change))
    summary = PathSummary(
        method.baseline,
        method.quadrature,
        method.layer,
        most_steps(by_view),
        at_input=aim @ paths.after,
        at_baseline=aim @ (paths.after - paths.change),
        sum=torch.stack([integral.values.sum(-1) for integral in by_view]).mean(0),
        tolerance=method.tolerance,
    )
    cut = trace.cut(method.layer[0])
    units = cut.units
    if isinstance(units, Words):
        units = tower.units(trace.inputs.take([0] * len(aim)), cut.hidden.expand(len(aim), -1, -1))
    share = torch.stack([special_share(integral.values, units) for integral in by_view]).mean(0)
    kept = [units.keep(integral.values) for integral in by_view]
    values, units = paths.blend(kept, units) if isinstance(units, Grid) else (kept[0], units)
    return Attribution(values, units, share, summary)


def _cell_masks(grid: Grid, count: int) -> Float[Tensor, "part token"]:
    """Return the share of each of ``count`` rows in each cell, and a last part for what is in no cell.

    A row of an overview is divided among the cells that it covers.
    """
    cells = grid.keep(torch.eye(count, dtype=torch.float32, device="cpu")).T
    return torch.cat([cells, 1 - cells.sum(0, keepdim=True)])


def _check_one_vector(model: Model) -> None:
    if model.similarity.item_ndim > 1:
        raise Unsupported(
            f"{model.id} compares sets of vectors, so an image has no single one: use explain, or explain_interactions"
        )


def _checked(embeddings: Tensor, like: Tensor) -> Float[Tensor, "many dim"]:
    if embeddings.ndim != 2 or embeddings.shape[1] != like.shape[1] or not len(embeddings):
        raise BadInput(f"embeddings must have the shape (many, {like.shape[1]}) (got {tuple(embeddings.shape)})")
    lengths = embeddings.norm(dim=-1)
    if not (lengths.isfinite() & (lengths > 0)).all():
        worst = int((~(lengths.isfinite() & (lengths > 0))).nonzero()[0])
        raise BadInput(f"embeddings must be finite and not zero (got the length {float(lengths[worst])} at {worst})")
    return F.normalize(embeddings.to(like), dim=-1)


@dataclass(frozen=True, eq=False, repr=False)
class Contributions(ByValue):
    """The contribution of each patch of an image to its unit embedding, from which a map is one matrix product.

    Attributes:
        vectors: The contribution of each patch, (patch + 1, dim); the last row is that of all other tokens.
            ``vectors @ v`` are NIB's scores for the unit embedding v.
        after: The unit embedding of the image.
        before: The unit embedding at the baseline. The sum of ``vectors`` is ``after - before``, up to the completeness
            gap.
        grid: The grid of the patches.
        facts: The image, the model and the options that the contributions were computed with.
        model: The model, which encodes captions; None for contributions from a file.

    """

    vectors: Float[Tensor, "patch dim"]
    after: Float[Tensor, " dim"]
    before: Float[Tensor, " dim"]
    grid: Grid
    facts: Mapping[str, str]
    model: Model | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        rows, columns, dim = self.grid.rows, self.grid.columns, self.vectors.shape[-1]
        return (
            f"Contributions of {self.facts.get('image')}: {rows} x {columns} patches, {dim} dimensions; model "
            f"{self.facts.get('model')}"
        )

    @plain_torch()
    def explain(self, caption: str | Sequence[str] | Tensor, model: Model | None = None) -> Attribution:
        """Return NIB's map for a caption or an embedding.

        It equals the image side of ``explain`` with the same options and the target ``cosine``, to 1e-5.

        Args:
            caption: A caption or an embedding, (dim), for one map; captions or embeddings, (batch, dim), for a batch.
            model: The model that encodes captions; needed if the contributions were loaded from a file without one.

        Raises:
            BadInput: A caption is blank, an embedding has a wrong size, or the model is missing or has other weights.

        """
        aim = F.normalize((caption if isinstance(caption, Tensor) else self._encoded(caption, model)).float(), dim=-1)
        aim = aim.cpu()
        if aim.ndim not in (1, 2) or aim.shape[-1] != len(self.after):
            raise BadInput(f"embeddings must have {len(self.after)} dimensions (got the shape {tuple(aim.shape)})")
        scores = aim @ self.vectors.T
        facts, layers = self.facts, tuple(map(int, self.facts["layers"].split(",")))
        summary = PathSummary(
            facts["baseline"],
            facts["quadrature"],
            layers,
            scores.new_full(scores.shape[:-1], int(facts["steps"])),
            at_input=aim @ self.after,
            at_baseline=aim @ self.before,
            sum=scores.sum(-1),
        )
        share = scores[..., -1].abs() / scores.abs().sum(-1).clamp_min(1e-30)
        return Attribution(scores[..., :-1], self.grid, share, summary)

    def _encoded(self, caption: str | Sequence[str], model: Model | None) -> Tensor:
        model = model or self.model
        if model is None:
            raise BadInput(
                "contributions from a file have no model: call explain(caption, model=...), or give an embedding"
            )
        if model.weights_hash != self.facts["weights_hash"]:
            raise BadInput(
                f"the model must have the weights {self.facts['weights_hash']}, with which the contributions were "
                f"computed ({model.id} has {model.weights_hash})"
            )
        embeddings = encode(model.text, [read_caption(text) for text in as_list(caption)])
        return embeddings[0] if isinstance(caption, str) else embeddings

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a safetensors file in half precision, completely or not at all.

        The relative error of scores is then about 0.001.

        Raises:
            WouldOverwrite: The path has a file that nibt did not write, and ``overwrite`` is false.
            CannotWrite: The folder is missing or not writable, or the disk is full.

        """
        tensors = {"vectors": self.vectors.half(), "after": self.after.half(), "before": self.before.half()}
        facts = {"kind": _KIND, "grid": f"{self.grid.rows},{self.grid.columns}", **self.facts}
        whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
        write_bytes(Path(path), sorted_header(serialized(whole, {"signature": unsigned(facts), **facts})), overwrite)

    @classmethod
    @plain_torch()
    def load(cls, path: str | Path, model: Model | None = None) -> "Contributions":
        """Read a file that ``save`` wrote.

        Args:
            path: The file.
            model: The model that encodes captions; without it, ``explain`` takes embeddings only.

        Raises:
            BadInput: The file is missing, or ``save`` did not write it.

        """
        try:
            with safe_open(str(path), "pt") as opened:
                facts = opened.metadata() or {}
                tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}
        except (SafetensorError, OSError) as error:
            raise BadInput(f"{str(path)!r} has no contributions that nibt wrote ({error})") from error
        facts.pop("signature", None)
        if facts.pop("kind", None) != _KIND:
            raise BadInput(f"{str(path)!r} has no contributions that nibt wrote")
        grid = Grid(*map(int, facts.pop("grid").split(",")))
        return cls(tensors["vectors"], tensors["after"], tensors["before"], grid, facts, model)


@plain_torch()
def contributions(
    model: Model | str | Path | nn.Module, image: ImageSource, *, variant: str = "default", **options: Any
) -> Contributions:
    """Compute the contribution of each patch to the unit embedding of an image.

    The map of any caption is then one matrix product.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: The image.
        variant: A variant of the method ``nib``.
        **options: Options of the method ``nib``.

    Raises:
        BadInput: The image cannot be read.
        UnknownName: No variant or option has that name.
        BadOption: An option has an invalid value.

    """
    model, image = load_model(model), read_image(image)
    _check_one_vector(model)
    spec = resolve(model, MethodSpec("nib", variant, baseline_by_side(options, ["image"])))
    method = spec.nib("image")
    trace = model.image.trace(model.image.prepare([image]), min(method.layer))
    side = Side(model, trace, lambda embedding: embedding.norm(dim=-1))  # the score is not used
    grid = trace.cut(method.layer[0]).units
    assert isinstance(grid, Grid)
    paths = SidePaths.of(side, method)
    by_view = paths.integrate(lambda layer: vectors(layer, _cell_masks(grid, layer.rows)))
    cells, fine = paths.blend([integral.values[:-1].T for integral in by_view], grid.bare())
    others = torch.stack([integral.values[-1] for integral in by_view]).mean(0)
    facts = {
        "image": image.source,
        "image_hash": image.digest,
        "model": model.id,
        "weights_hash": model.weights_hash,
        "quadrature": method.quadrature,
        "baseline": method.baseline,
        "steps": str(int(most_steps(by_view).max())),
        "views": str(method.views),
        "layers": ",".join(map(str, method.layer)),
    }
    ends = paths.after.float().cpu(), (paths.after - paths.change).float().cpu()
    return Contributions(torch.cat([cells.T, others[None]]).float().cpu(), *ends, fine, facts, model)
