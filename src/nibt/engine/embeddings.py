"""Methods with vectors, for many captions of one image: maps of a batch of embeddings, and contributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nibt.core.side import Side
from nibt.data.images import ImageInput, ImageSource, read_image
from nibt.data.pair import Caption, as_list, modality, read_caption
from nibt.data.units import Grid, Words
from nibt.engine.encode import encode
from nibt.engine.spec import ExplanationSpec, Request, baseline_by_side, resolve
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.io import file_path
from nibt.methods._vectors import SideVectors, rest_share
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.models._tower import Trace
from nibt.models.base import Model
from nibt.registry import MethodSpec
from nibt.results.attribution import Attribution, PathSummary
from nibt.results.outputs import unsigned, write_bytes
from nibt.results.tensor_files import tensor_file
from nibt.torch_modes import plain_torch
from nibt.types import ByValue

_KIND = "nibt contributions"


@plain_torch()
def explain_embeddings(
    model: ModelSource,
    item: ImageSource | Caption,
    embeddings: Tensor | np.ndarray,
    method: str | MethodSpec | Method = "nib",
    *,
    variant: str | None = None,
    **options: object,
) -> Attribution:
    """Compute the maps of one image for the embeddings of many captions, or of one caption for many images.

    The maps equal those of ``explain`` with the target ``cosine``, to 1e-5 or, with a tolerance, to the tolerance. They
    have no notes: look at ``path.missed``, whether a map misses the tolerance. The forward passes are shared by all
    embeddings. Methods with a path also need, for each step, a backward pass per embedding or a forward pass per token,
    whichever are fewer.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        item: An image or a ``Caption``.
        embeddings: The embeddings of the other side, (many, dim), a tensor or an array. Their lengths do not matter.
        method: A method that is linear in the target: ``nib``, ``integrated_gradients``, ``banzhaf``, ``shapley``,
            ``occlusion``, ``rise`` or ``fixlip``.
        variant: A variant of the method; None means that of its text, or ``default``.
        **options: Options of the method.

    Returns:
        A batch of maps, one per embedding.

    Raises:
        BadInput: The image or the caption cannot be read, or an embedding has a wrong shape, is zero or not finite.
        UnknownName: No method, variant or option has that name.
        BadOption: An option has an invalid value, or the method is not linear in the target.
    """
    model = load_model(model)
    content = read_caption(item) if isinstance(item, Caption) else read_image(item)
    _, vectors, trace = _vectors(model, content, MethodSpec.of(method, variant, options))
    unit_embeddings = _unit(embeddings, trace.embedding, [2])
    scores = vectors.scores(unit_embeddings)
    units = scores.units
    if isinstance(units, Words):
        units = units.repeated(len(unit_embeddings))
    return Attribution(
        scores.parts.values[:, :-1], units, scores.special_token_share, vectors.summary(unit_embeddings, scores)
    )


def _vectors(model: Model, item: ImageInput | str, method: MethodSpec) -> tuple[ExplanationSpec, SideVectors, Trace]:
    """Return the resolved request, the vectors of an image or a caption, and its trace."""
    if model.similarity.item_ndim > 1:
        raise Unsupported(
            f"{model.id} compares sets of vectors, so an image has no single one: use explain, or regions"
        )

    side_name = modality(item)
    spec = resolve(model, Request(replace(method, options=baseline_by_side(method.options, [side_name]))))
    tower = model.tower(side_name)
    trace = tower.trace(tower.prepare([item]), spec.methods[side_name].lowest)
    side = Side(model, trace, lambda embedding: embedding.norm(dim=-1))  # the score is not used
    return spec, spec.methods[side_name].vectors(side), trace


def _unit(embeddings: object, like: Tensor, axes: Sequence[int]) -> Float[Tensor, "*many dim"]:
    """Return embeddings with the length 1 and so many axes, which must be finite and not zero."""
    shape = tuple[int, ...](getattr(embeddings, "shape", ()))
    width = like.shape[-1]
    if isinstance(embeddings, np.ndarray) and embeddings.dtype.kind in "fiu":
        embeddings = torch.from_numpy(np.array(embeddings, np.float64))  # of any byte order and strides
    is_dense = isinstance(embeddings, Tensor) and embeddings.layout == torch.strided and not embeddings.is_meta
    if (
        not isinstance(embeddings, Tensor)
        or not is_dense
        or embeddings.is_complex()
        or len(shape) not in axes
        or shape[-1] != width
        or not shape[0]
    ):
        got = shape or f"a {type(embeddings).__name__}"
        if isinstance(embeddings, Tensor) and not (is_dense and embeddings.dtype.is_floating_point):
            got = f"{shape} of {embeddings.dtype}, {embeddings.layout} on {embeddings.device}"
        vector = f"({width},) or " if 1 in axes else ""
        raise BadInput(
            f"embeddings must be a tensor or an array of the shape {vector}(many, {width}), dense and of real numbers "
            f"(got {got})"
        )

    embeddings = embeddings.cpu().double()
    largest = embeddings.abs().amax(-1, keepdim=True)  # whose square may be infinite or 0 in float32
    wrong = ~(largest.isfinite() & (largest > 0)).reshape(-1)
    if wrong.any():
        worst = int(wrong.nonzero()[0])
        size = float(largest.reshape(-1)[worst])
        raise BadInput(f"embeddings must be finite and not zero (got the largest number {size} at {worst})")
    return F.normalize(embeddings / largest, dim=-1).to(like)


@dataclass(frozen=True, eq=False, repr=False)
class Contributions(ByValue):
    """The contribution of each patch of an image to its unit embedding, from which maps for captions are computed.

    Attributes:
        vectors: The contribution of each patch, (patch + 1, dim); the last row is that of all other tokens.
            ``vectors @ v`` are the scores for the unit embedding v.
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
        rows = self.grid.rows
        columns = self.grid.columns
        dim = self.vectors.shape[-1]
        return (
            f"Contributions of {self.facts.get('image')}: {rows} x {columns} patches, {dim} dimensions; model "
            f"{self.facts.get('model')}"
        )

    @plain_torch()
    def explain(self, caption: str | Sequence[str] | Tensor | np.ndarray, model: Model | None = None) -> Attribution:
        """Return the map for a caption or an embedding.

        It equals the image side of ``explain`` with the same options and the target ``cosine``, to 1e-5 (with a
        tolerance, to the tolerance).

        Args:
            caption: A caption or an embedding, (dim), for one map; captions or embeddings, (batch, dim), for a batch.
                Embeddings are tensors or arrays.
            model: The model that encodes captions; needed if the contributions were loaded from a file without one.

        Raises:
            BadInput: A caption is blank, an embedding has a wrong size, or the model is missing or has other weights.
        """
        embeddings = caption if isinstance(caption, Tensor | np.ndarray) else self._encoded(caption, model)
        unit_embeddings = _unit(embeddings, self.after, [1, 2])
        scores = unit_embeddings @ self.vectors.T
        return Attribution(scores[..., :-1], self.grid, rest_share(scores), self._path(unit_embeddings, scores))

    def _path(self, unit_embeddings: Tensor, scores: Tensor) -> PathSummary | None:
        """Return the summary of the path; None for methods without one."""
        facts = self.facts
        if "quadrature" not in facts:
            return None
        return PathSummary(
            facts["baseline"],
            facts["quadrature"],
            tuple(map(int, filter(None, facts.get("layer", "").split(",")))),
            scores.new_full(scores.shape[:-1], int(facts["steps"])),
            at_input=unit_embeddings @ self.after,
            at_baseline=unit_embeddings @ self.before,
            sum=scores[..., :-1].sum(-1),
            special_tokens=scores[..., -1],
        )

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

        texts = [read_caption(text) for text in as_list(caption)]
        if not texts:
            raise BadInput("there is nothing to explain (got no captions): give at least one")

        embeddings = encode(model.text, texts)
        return embeddings[0] if isinstance(caption, str) else embeddings

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a safetensors file in half precision, completely or not at all.

        The relative error of scores is then about 0.001.

        Raises:
            BadOption: The name of the file does not end in ``.safetensors``.
            WouldOverwrite: The path has a file that nibt did not write, and ``overwrite`` is false.
            CannotWrite: The folder is missing or not writable, or the disk is full.
        """
        path = file_path("path", path)
        if path.suffix != ".safetensors":
            raise BadOption(f"path must end in .safetensors, the only format of contributions (got {str(path)!r:.100})")

        tensors = {"vectors": self.vectors.half(), "after": self.after.half(), "before": self.before.half()}
        facts = {"kind": _KIND, "grid": f"{self.grid.rows},{self.grid.columns}", **self.facts}
        data = tensor_file(tensors, {"signature": unsigned(facts), **facts})
        write_bytes(path, data, [facts], overwrite)

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
    model: ModelSource,
    image: ImageSource,
    method: str | MethodSpec | Method = "nib",
    *,
    variant: str | None = None,
    **options: object,
) -> Contributions:
    """Compute the contribution of each patch to the unit embedding of an image.

    The map of any caption is then one matrix product.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: The image.
        method: A method that is linear in the target, as for ``explain_embeddings``.
        variant: A variant of the method; None means that of its text, or ``default``.
        **options: Options of the method.

    Raises:
        BadInput: The image cannot be read.
        UnknownName: No method, variant or option has that name.
        BadOption: An option has an invalid value, or the method is not linear in the target.
    """
    model = load_model(model)
    image = read_image(image)
    named = MethodSpec.of(method, variant, options)
    spec, vectors, _ = _vectors(model, image, named)
    cells, grid = vectors.of_cells()
    facts = {
        "image": image.source,
        "image_hash": image.digest,
        "model": model.id,
        "weights_hash": model.record()["weights_hash"],
        "method": named.name,
        **{name: ",".join(map(str, as_list(value))) for name, value in spec.methods["image"].options().items()},
    }
    if "steps" in facts:
        facts["steps"] = str(int(cells.steps.max()))

    after = vectors.after.float().cpu()
    before = (vectors.after - vectors.change).float().cpu()
    return Contributions(cells.values.float().cpu(), after, before, grid, facts, model)
