"""A model with another attention in its blocks, beside the plain CLIP that it was made of: no family is needed.

The attention is the differential one of Ye et al. (2024), as in DiffCLIP: the difference of two maps, times the values.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nibt
from tests import tiny


class DifferentialAttention(nn.Module):
    """The attention of a block of CLIP, whose queries and keys are halved: the second half is subtracted."""

    def __init__(self, plain: Any, share: float) -> None:
        super().__init__()
        self.plain = plain
        self.share = nn.Parameter(torch.tensor(share))

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **options: Any
    ) -> tuple[Tensor, Tensor | None]:
        heads = self.plain.num_heads
        query, key, value = (
            layer(hidden_states).unflatten(-1, (heads, -1)).transpose(1, 2)
            for layer in (self.plain.q_proj, self.plain.k_proj, self.plain.v_proj)
        )
        halves = zip(query.chunk(2, -1), key.chunk(2, -1), strict=True)
        first, second = ((one @ other.mT / one.shape[-1] ** 0.5).softmax(-1) for one, other in halves)
        mixed = (first - self.share * second) @ value
        return self.plain.out_proj(mixed.transpose(1, 2).flatten(2)), None


def models(share: float) -> tuple[nibt.Model, nibt.Model, Any]:
    """Return the plain model, that with differential attention in its image tower, and the module of the latter."""
    plain, changed = tiny.clip(), tiny.clip()
    for block in changed.module.vision_model.encoder.layers:
        block.self_attn = DifferentialAttention(block.self_attn, share)
    loaded = [nibt.load_model(built.module.eval(), processor=built.processor) for built in (plain, changed)]
    return loaded[0], loaded[1], changed.module


def test_differential_attention_is_explained_beside_the_plain_model(tmp_path: Path) -> None:
    plain, changed, module = models(0.5)
    image, caption = tiny.image(), tiny.CAPTIONS[0]
    explanations = [nibt.explain(model, image, caption, layer=0, tolerance=0.01) for model in (plain, changed)]
    assert not torch.allclose(explanations[0].grid, explanations[1].grid)
    for explanation in explanations:
        path = explanation.image.path
        assert path is not None
        assert not bool(path.missed)

    prepared = changed.image.prepare([image])
    with torch.no_grad():
        own = module.get_image_features(pixel_values=prepared.values)
    own = getattr(own, "pooler_output", own)
    torch.testing.assert_close(changed.image.encode(prepared), own, atol=1e-5, rtol=1e-4)

    nibt.save(explanations, tmp_path / "both.html")
    assert f"{explanations[1].similarity:.3f}".lstrip("-") in (tmp_path / "both.html").read_text()
    nibt.save(explanations, tmp_path / "both.png")


@pytest.mark.parametrize("method", ["gae", "occlusion", "integrated_gradients"])
def test_other_methods_explain_it(method: str) -> None:
    """Of the attention, ``gae`` takes what is multiplied with the values: the difference of both maps."""
    plain, changed, _ = models(0.5)
    grids = [nibt.explain(model, tiny.image(), tiny.CAPTIONS[0], method).grid for model in (plain, changed)]
    assert grids[1].isfinite().all()
    assert not torch.allclose(grids[0], grids[1])


def test_embedding_is_that_of_the_module_also_without_a_second_map() -> None:
    """With a replaced module, no faster path computes the attention that the block had before."""
    changed = models(0.5)[1]
    _, none, module = models(0.0)
    image, caption = tiny.image(), tiny.CAPTIONS[0]
    first, second = (nibt.explain(model, image, caption).similarity for model in (none, changed))
    with torch.no_grad():
        prepared = none.image.prepare([image])
        own = module.get_image_features(pixel_values=prepared.values)
    own = getattr(own, "pooler_output", own)
    torch.testing.assert_close(none.image.encode(prepared), own, atol=1e-5, rtol=1e-4)
    assert first != second
