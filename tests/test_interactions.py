"""The word-region table and the contributions: identities, finite differences, and files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nibt
import tiny
from nibt.core.quadrature import nodes
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.engine.embeddings import Contributions
from nibt.engine.jacobians import jvp_integral, narrowed, rows, scores, vjp_integral
from nibt.errors import BadInput, BadOption, CannotWrite
from nibt.methods.nib import NIB
from nibt.models._trace import Cut
from nibt.models.base import Model
from nibt.results.interaction import Interaction
from nibt.results.saving import save

CAPTION = tiny.CAPTIONS[0]
KINDS = sorted(tiny.KINDS)


def table(kind: str = "clip", **options: object) -> Interaction:
    answer = nibt.explain_interactions(tiny.model(kind), tiny.image(), CAPTION, **options)
    assert isinstance(answer, Interaction)
    return answer


def cut_of(model: Model, modality: str, layer: int = 1) -> tuple[Cut, torch.Tensor]:
    tower = model.tower(modality)  # pyright: ignore
    trace = tower.trace(tower.prepare([tiny.image()] if modality == "image" else [CAPTION]))
    return trace.cut(layer), tower.blank(trace.inputs, layer)


def change(cut: Cut, start: torch.Tensor) -> torch.Tensor:
    """How far the unit embedding moves from a baseline to the state itself."""
    with torch.no_grad():
        after, before = F.normalize(cut.rest(torch.stack([cut.hidden, start])), dim=-1)
    return after - before


def shares(cut: Cut, start: torch.Tensor) -> torch.Tensor:
    """A direction for each token row."""
    count = cut.hidden.shape[1]
    return torch.eye(count)[:, None, :, None] * (cut.hidden - start)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_mode_agree_on_every_family(kind: str, modality: str) -> None:
    cut, start = cut_of(tiny.model(kind), modality)
    path = nodes("gauss", 2)
    chosen = slice(0, None, max(1, cut.hidden.shape[1] // 8))  # the rows of a large feature map would take long
    forward = jvp_integral(cut, start, path, shares(cut, start)[chosen])
    vectors = F.normalize(torch.randn(2, 1, forward.shape[-1], generator=torch.Generator().manual_seed(0)), dim=-1)
    backward = vjp_integral(cut, start, path, vectors)[..., chosen]
    expected = torch.einsum("tbd,vbd->vbt", forward, vectors)
    torch.testing.assert_close(backward, expected, atol=5e-5 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("modality", ["image", "text"])
@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "coca", "bert", "efficientnet"])
def test_the_contributions_add_up_to_the_change_of_the_embedding(kind: str, modality: str) -> None:
    cut, start = cut_of(tiny.model(kind), modality)
    path = nodes("gauss", 64)
    moved = change(cut, start)
    vectors = rows(cut, start, path, torch.eye(cut.hidden.shape[1]), moved.shape[-1])
    torch.testing.assert_close(vectors.sum(0), moved, atol=2e-3, rtol=0)


def test_chunks_do_not_matter() -> None:
    cut, start = cut_of(tiny.model("clip"), "image")
    path, ways = nodes("gauss", 3), shares(*cut_of(tiny.model("clip"), "image"))
    torch.testing.assert_close(
        jvp_integral(cut, start, path, ways, 1), jvp_integral(cut, start, path, ways, 64), atol=1e-6, rtol=0
    )
    vectors = jvp_integral(cut, start, path, ways)[:3]
    torch.testing.assert_close(
        vjp_integral(cut, start, path, vectors, 1), vjp_integral(cut, start, path, vectors, 64), atol=1e-6, rtol=0
    )


def test_both_ways_to_the_rows_agree() -> None:
    """More parts than half the embedding's numbers go backward, fewer forward."""
    cut, start = cut_of(tiny.model("clip"), "image")
    path, count = nodes("gauss", 3), cut.hidden.shape[1]
    dim = cut.rest(cut.hidden[None]).shape[-1]
    few = torch.eye(count)[:2]
    many = few.repeat(dim, 1)
    found, expected = (rows(cut, start, path, parts, dim) for parts in (many, few))
    torch.testing.assert_close(found[:2], expected, atol=1e-6, rtol=1e-4)


class Bilinear(nn.Module):
    """A tail whose embedding is known by hand: the sum of squares of each channel over the rows, and a constant."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return torch.cat([states.square().sum(-2), torch.ones_like(states[..., :1, 0])], -1)


def test_on_a_net_known_by_hand_it_is_finite_differences() -> None:
    hidden = torch.tensor([[[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]])
    cut = Cut(hidden, Grid(1, 3), lambda states: Bilinear()(states.flatten(0, 1)).unflatten(0, states.shape[:2]))
    start = torch.full_like(hidden, 0.25)
    path = nodes("gauss", 40)
    found = rows(cut, start, path, torch.eye(3), 3)[:, 0]
    width, steps = 1e-3, 400
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for step in range(steps):
        state = (start + (step + 0.5) / steps * (hidden - start)).double()
        for row in range(3):
            move = torch.zeros_like(state)
            move[:, row] = (hidden - start)[:, row].double()
            ends = torch.stack([state + width * move, state - width * move])
            after, before = F.normalize(Bilinear()(ends), dim=-1)[:, 0]
            expected[row] += (after - before) / (2 * width * steps)
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit attention", "coca", "bert", "convnext"])
def test_the_table_is_the_full_product(kind: str) -> None:
    model, layer = tiny.model(kind), 3 if kind == "convnext" else 1  # its first maps have many cells
    found = table(kind, image_layer=layer, text_layer=1, steps=3, baseline="blank")
    path = nodes("gauss", 3)
    image, image_start = cut_of(model, "image", layer)
    text, text_start = cut_of(model, "text", 1)
    patches = image.units.keep(jvp_integral(image, image_start, path, shares(image, image_start))[:, 0].T).T
    tokens = jvp_integral(text, text_start, path, shares(text, text_start))[:, 0]
    expected = torch.stack([tokens[list(word.tokens)].sum(0) @ patches.T for word in found.words])
    torch.testing.assert_close(found.table.flatten(1), expected, atol=1e-5 * float(expected.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("kind", ["clip", "own vit"])
def test_rows_and_columns_add_up(kind: str) -> None:
    """Over all words: NIB's map for the change of the caption's embedding. Over all of it: the product, and a gap."""
    model = tiny.model(kind)
    found = table(kind, image_layer=1, text_layer=1, steps=24)
    text, start = cut_of(model, "text")
    moved = change(text, start)[0]
    contributed = nibt.contributions(model, tiny.image(), layer=1, steps=24)
    expected = contributed.vectors[:-1] @ moved
    torch.testing.assert_close(found.scores.sum(0)[:-1], expected, atol=2e-3 * float(expected.abs().max()), rtol=0)
    assert found.gap == pytest.approx(found.product - float(found.scores.sum()))
    assert abs(found.gap) < 0.02 * abs(found.product) + 1e-4


@pytest.mark.parametrize(("sample", "caption"), [("coffee", "a cup"), ("chelsea", "a cat"), ("collage", CAPTION)])
def test_the_table_holds_without_a_word_about_nodes(sample: str, caption: str) -> None:
    """On a trained model, whose paths are bent, a few nodes give sums that are wrong in their sign."""
    model = nibt.load_model("scenes")
    found = nibt.explain_interactions(model, f"sample:{sample}", caption)
    few = nibt.explain_interactions(model, f"sample:{sample}", caption, tolerance=None)
    exact = nibt.explain_interactions(model, f"sample:{sample}", caption, steps=128)
    near = float(exact.table.abs().max())
    torch.testing.assert_close(found.table, exact.table, atol=0.05 * near, rtol=0)
    assert (few.table - exact.table).abs().max() > 2 * (found.table - exact.table).abs().max()
    assert abs(found.gap) < 0.05 * float(exact.scores.sum(1).abs().sum())
    assert found.method["nodes"]["text"] > few.method["nodes"]["text"] == 8
    assert exact.method["nodes"] == {"image": 128, "text": 128}
    assert "tolerance" not in str(found.warnings)


def test_each_word_has_its_own_nodes() -> None:
    """A word's map depends on what the strongest word's adds up to, and on no other word."""
    model = tiny.model("clip")
    side = Side(model, model.image.trace(model.image.prepare([tiny.image()])), lambda embedding: embedding.norm(dim=-1))
    (of,) = narrowed(side, NIB((1,), steps=1, tolerance=0.003))
    aim = F.normalize(torch.randn(6, len(of.change), generator=torch.Generator().manual_seed(0)), dim=-1)
    aim = aim * torch.logspace(0, -4, 6)[:, None]
    most = (aim @ of.change).abs().max()
    together = scores(of, aim, most.expand(6))
    assert len(set(together.steps.tolist())) > 1, "all alike"
    for vector, found, steps in zip(aim, together.values, together.steps, strict=True):
        alone = scores(of, vector[None], most[None])
        assert alone.steps[0] == steps
        torch.testing.assert_close(alone.values[0], found, atol=1e-6 * float(together.values.abs().max()), rtol=1e-4)


def test_a_tolerance_that_is_not_reached_is_told() -> None:
    told = table(image_layer=1, text_layer=1, steps=1, tolerance=1e-9)
    assert told.method["nodes"] == {"image": 64, "text": 64}
    assert str(told.warnings).count("side of the table is above the tolerance after 64 nodes") == 2
    assert "tolerance" not in str(table(image_layer=1, text_layer=1, steps=1, tolerance=0.5).warnings)


def test_contributions_keep_a_tolerance() -> None:
    model = tiny.model("clip")
    found = nibt.contributions(model, tiny.image(), layer=1, steps=1, tolerance=0.01)
    assert int(found.facts["steps"]) > 1
    moved = found.after - found.before
    assert (found.vectors.sum(0) - moved).norm() <= 0.01 * moved.norm()


def test_more_nodes_close_the_gap() -> None:
    gaps = [abs(table(image_layer=1, text_layer=1, steps=steps).gap) for steps in (1, 4, 16)]
    assert gaps[2] < gaps[1] < gaps[0]


def test_several_layers_are_averaged() -> None:
    both, one, other = (table(layer=layer, steps=2) for layer in ("1,2", "1", "2"))
    text_fixed = [table(image_layer=layer, text_layer=1, steps=2) for layer in ("1,2", "1", "2")]
    mean = (text_fixed[1].scores + text_fixed[2].scores) / 2
    torch.testing.assert_close(text_fixed[0].scores, mean, atol=1e-6, rtol=0)
    assert not torch.allclose(both.scores, (one.scores + other.scores) / 2)  # a product of means is no mean of products


def test_lists_pair_up_and_the_same_call_gives_the_same_bits() -> None:
    model = tiny.model("clip")
    several = nibt.explain_interactions(model, tiny.image(), tiny.CAPTIONS[:2], steps=2)
    assert isinstance(several, list)
    assert [one.caption for one in several] == list(tiny.CAPTIONS[:2])
    again = nibt.explain_interactions(model, tiny.image(), tiny.CAPTIONS[0], steps=2)
    assert isinstance(again, Interaction)
    assert torch.equal(several[0].scores, again.scores)


def test_words_and_regions_are_sums_over_the_table() -> None:
    found = table(steps=2)
    texts = [word.text for word in found.words]
    torch.testing.assert_close(found.for_words(0), found.table[0])
    assert texts == ["a", "photo", "of", "a", "cat", "and", "a", "dog"]
    torch.testing.assert_close(found.for_words("a", 1), found.table[[0, 1, 3, 6]].sum(0))  # every "a"
    torch.testing.assert_close(found.for_words(f"{texts[1].upper()} {texts[2]}"), found.table[1] + found.table[2])
    width, height = found.size
    whole = [score for _, score in found.for_region((0, 0, width, height))]
    seen = found.table.flatten(1).sum(1)
    if found.region.width <= width:  # nothing was cut off
        torch.testing.assert_close(torch.tensor(whole), seen, atol=1e-6, rtol=1e-4)
    with pytest.raises(BadInput, match="does not stand in the caption"):
        found.for_words("zebra")
    with pytest.raises(BadInput, match="have the numbers"):
        found.for_words(99)
    with pytest.raises(BadInput, match="at least one"):
        found.for_words()
    with pytest.raises(BadInput, match="outside"):
        found.for_region((10 * width, 0, 5, 5))


def test_a_patch_counts_by_the_share_that_lies_in_the_box() -> None:
    found = table(steps=1)
    rows_, columns = found.grid.rows, found.grid.columns
    cell = found.region.width / columns, found.region.height / rows_
    flat = replace(found, scores=torch.ones_like(found.scores))
    left, top = found.region.left, found.region.top
    half = flat.for_region((round(left), round(top), round(1.5 * cell[0]), round(2 * cell[1])))
    expected = round(1.5 * cell[0]) / cell[0] * round(2 * cell[1]) / cell[1]
    assert half[0][1] == pytest.approx(expected, rel=0.15)


def test_it_is_written_and_read(tmp_path: Path) -> None:
    found = table(steps=2)
    found.save(tmp_path / "x.json")
    again = Interaction.load(tmp_path / "x.json")
    torch.testing.assert_close(again.scores, found.scores, atol=1e-7, rtol=1e-6)
    assert (again.caption, again.words, again.region) == (found.caption, found.words, found.region)
    assert again.gap == pytest.approx(found.gap, abs=1e-6)
    save([found, found], tmp_path / "two.json")
    assert len(json.loads((tmp_path / "two.json").read_text())) == 2
    with pytest.raises(BadInput, match="no word-region table"):
        Interaction.load(tmp_path / "two.json")
    with pytest.raises(CannotWrite):
        found.save(tmp_path / "missing" / "x.json")


@pytest.mark.parametrize("kind", ["clip", "siglip", "own vit", "efficientnet"])
def test_a_map_from_the_contributions_is_the_explanation(kind: str) -> None:
    model = tiny.model(kind)
    contributed = nibt.contributions(model, tiny.image(), steps=3)
    for caption in tiny.CAPTIONS[:3]:
        expected = nibt.explain(model, tiny.image(), caption, image_steps=3)
        assert isinstance(expected, nibt.Explanation)
        answer = contributed.explain(caption)
        torch.testing.assert_close(answer.scores, expected.image.scores, atol=1e-5, rtol=0)
        assert answer.path is not None
        assert expected.image.path is not None
        for name in ("at_input", "at_baseline", "sum", "gap"):
            torch.testing.assert_close(
                getattr(answer.path, name), getattr(expected.image.path, name), atol=1e-5, rtol=0
            )
        assert answer.grid.shape == expected.image.grid.shape


def test_contributions_are_saved_compactly(tmp_path: Path) -> None:
    model = tiny.model("clip")
    made = nibt.contributions(model, tiny.image(), steps=3)
    made.save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").stat().st_size < 2 * made.vectors.numel() + 4 * made.after.numel() + 1500
    read = Contributions.load(tmp_path / "x.safetensors", model)
    scores = made.explain(CAPTION).scores
    torch.testing.assert_close(read.explain(CAPTION).scores, scores, atol=2e-3 * float(scores.abs().max()), rtol=0)
    with pytest.raises(BadInput, match="know no model"):
        Contributions.load(tmp_path / "x.safetensors").explain(CAPTION)
    with pytest.raises(BadInput, match="are of the weights"):
        read.explain(CAPTION, tiny.model("clip odd patch"))
    with pytest.raises(BadInput, match="must have"):
        read.explain(torch.ones(3))
    (tmp_path / "y.safetensors").write_text("nothing")
    with pytest.raises(BadInput, match="holds no contributions"):
        Contributions.load(tmp_path / "y.safetensors")


def test_bad_options_are_told() -> None:
    with pytest.raises(BadOption):
        table(layer=99)
    with pytest.raises(BadInput):
        nibt.explain_interactions(tiny.model("clip"), tiny.image(), " ")
