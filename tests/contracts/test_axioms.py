"""Which method keeps which axiom, in both directions, and the table of docs/explanation/axioms.md."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nibt.core.side import Side
from nibt.methods.base import SIDES
from nibt.methods.nib import NIB
from nibt.models.base import Model
from nibt.types import Modality
from tests import axiom_towers as towers
from tests import axioms, tiny
from tests.axiom_towers import ALIKE, BATCH, IGNORED, INSIDE, UNITS, Change, net, replaced, side, values
from tests.helpers import all_tokens, at_end, make_side
from tests.suites import few

both_sides = pytest.mark.parametrize("modality", SIDES)


CLAIMS = """
                              completeness
                              |  sensitivity: row, content
                              |  |    invariance: blocks, basis, offset, depth
                              |  |    |        linearity
                              |  |    |        |  symmetry
                              |  |    |        |  |  constant
banzhaf                       b  k k  k k k k  k  k  k
banzhaf, sampled              b  b b  k k k k  k  b  k
center                        -  b b  k k k k  b  b  k
chefer                        b  k b  b k k b  b  k  k
clearclip                     b  b b  b k b b  k  k  b
clip_surgery                  b  b b  b k k k  b  k  b
fast_ig                       b  k b  b k k b  k  k  k
fast_ig, textbook             b  k t  k k b k  k  k  k
fixlip                        b  k k  k k k k  k  k  k
gae                           b  k b  b k k k  b  k  k
gae, textbook                 b  k b  b k k k  b  k  k
grad_cam                      b  k b  k k b b  b  k  k
grad_cam, along path          b  k b  k k k b  b  k  k
grad_cam, textbook            b  b b  k k b b  b  k  k
grad_eclip                    b  k b  b k k b  b  k  k
grad_eclip, authors           b  b b  b b k b  b  k  k
integrated_gradients          k  k k  k k k k  k  k  k
integrated_gradients, paper   t  k t  k k b k  k  k  k
legrad                        b  k b  b k k k  b  k  k
m2ib                          -  b b  k b b b  b  b  k
m2ib, adaib                   -  b b  k b b b  b  b  b
m2ib, iba                     -  b b  k b k b  b  b  k
maskclip                      b  b b  k k k b  k  k  b
mfaba                         b  k t  k b k k  b  k  k
naclip                        b  b b  b k b b  k  t  b
nib                           k  k t  k k k t  k  k  k
nib, fast                     i  k t  k k k t  k  k  k
nib, layer 0                  k  k k  k k k k  k  k  k
nib, paper                    b  k b  k k b b  k  k  k
nib, zero, geometric          k  k b  k k b t  k  k  k
occlusion                     b  k k  k k k k  k  k  k
ones                          -  b b  k k k k  b  k  k
random                        -  b b  k k k k  b  b  k
rise                          b  b b  k k i k  k  b  b
rollout                       -  k b  b k k b  b  k  k
saliency_map                  b  k b  b k k b  b  k  k
saliency_map, textbook        b  k t  k b k k  b  k  k
sclip                         b  b b  b k k b  k  k  b
shapley                       k  k k  k k k k  k  k  k
shapley, sampled              k  b b  k k k k  k  b  k
"""
"""k: keeps; b: breaks; i, t: keeps on the image or text side only; -: does not apply."""


MEANS = {"k": (True, True), "b": (False, False), "i": (True, False), "t": (False, True), "-": (None, None)}


def claimed() -> dict[str, dict[str, tuple[bool | None, bool | None]]]:
    rows = [line.rsplit(None, len(axioms.AXIOMS)) for line in CLAIMS.splitlines() if line[:1].strip()]
    return {name: dict(zip(axioms.AXIOMS, map(MEANS.get, letters), strict=True)) for name, *letters in rows}


def test_claims_are_of_methods_and_variants() -> None:
    assert claimed().keys() <= axioms.lines().keys()


@pytest.mark.parametrize("line", few(claimed(), ["nib", "nib, paper", "gae", "grad_cam", "occlusion"]))
def test_methods_keep_and_break_the_claimed_axioms(line: str) -> None:
    for axiom in axioms.AXIOMS:
        actual = {modality: axioms.violation(line, axiom, modality) for modality in SIDES}
        keeps = tuple(axioms.keeps(line, axiom, modality) for modality in SIDES)
        assert keeps == claimed()[line][axiom], (axiom, actual)


@pytest.mark.slow
def test_axioms_table_of_the_documentation_is_current() -> None:
    assert axioms.PAGE.with_suffix(".csv").read_text(encoding="utf-8") == axioms.table()


def test_summary_of_the_axioms_is_that_of_the_table() -> None:
    text = axioms.PAGE.read_text(encoding="utf-8")
    assert axioms.page(axioms.PAGE.with_suffix(".csv").read_text(encoding="utf-8"), text) == text


SAME = {
    **{name: (*pair, True) for name, pair in INSIDE.items()},
    "all inside": ((towers.head_unread,), towers.all_inside, True),
    "stream multiplied": ((), towers.stream_multiplied, False),
    "stream shifted": ((), towers.stream_shifted, False),
    "depth": ((towers.first_block_idle,), towers.last_block_idle, True),
}


@both_sides
@pytest.mark.parametrize("name", SAME)
def test_changed_towers_are_the_same_function(name: str, modality: Modality) -> None:
    changes, other, norm = SAME[name]
    first, second = net(modality, norm, *changes), net(modality, norm, other)
    nothing = torch.zeros_like(values(modality))  # the blank image, or padding only
    for content in (values(modality), values(modality, seed=8), nothing):
        torch.testing.assert_close(first(content), second(content), atol=1e-10, rtol=1e-10)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert sum(not torch.allclose(one, two, rtol=1e-2) for one, two in pairs) >= towers.DEPTH - 1


@both_sides
@pytest.mark.parametrize("name", SAME)
def test_changed_towers_differ_in_their_states(name: str, modality: Modality) -> None:
    changes, other, norm = SAME[name]
    first, second = side(modality, *changes, norm=norm), side(modality, other, norm=norm)
    layer = first.tower.relative(0.75)
    assert torch.allclose(first.cut(layer).hidden, second.cut(layer).hidden) == ("inside" in name or name in INSIDE)


@both_sides
@pytest.mark.parametrize("change", [towers.row_ignored, towers.content_ignored])
def test_score_ignores_the_ignored_unit(change: Change, modality: Modality) -> None:
    tower, content, other = net(modality, True, change), values(modality), values(modality, seed=8)
    for unit in range(UNITS):
        same = torch.allclose(tower(content), tower(replaced(content, unit, other, unit)), rtol=0, atol=1e-14)
        assert same == (unit == IGNORED)


@both_sides
def test_score_does_not_distinguish_equal_units(modality: Modality) -> None:
    tower, content, other = net(modality, True, towers.places_alike), towers.alike(modality), values(modality, seed=8)
    first, second = (tower(replaced(content, unit, other, IGNORED)) for unit in ALIKE)
    torch.testing.assert_close(first, second)
    assert not torch.allclose(first, tower(content))
    assert not torch.allclose(first, tower(replaced(content, 0, other, IGNORED)))


GRADIENTS = ("chefer", "fast_ig", "gae", "gae, textbook", "legrad", "saliency_map")


BROKEN_BY = {
    "clearclip": ("queries and keys multiplied",),
    "clip_surgery": ("values and outputs multiplied", "values shifted"),
    **dict.fromkeys(GRADIENTS, ("values shifted",)),
    "naclip": ("queries and keys multiplied", "keys shifted"),
    "rollout": ("unread head",),
    "sclip": ("queries and keys multiplied", "keys shifted", "values shifted"),
    "grad_eclip": ("queries and keys multiplied", "keys shifted", "values shifted", "unread head"),
}


@pytest.mark.parametrize("line", BROKEN_BY)
def test_methods_respond_to_changes_inside_a_block(line: str) -> None:
    """Attention weights sum to 1, so their gradient is known up to a constant per row, which values and biases
    determine.

    Rollout uses weights that no head reads.
    """
    for name, (first, second) in INSIDE.items():
        for modality in SIDES:
            actual = axioms.between(first, second, axioms.lines()[line], modality)
            assert (actual > axioms.BROKEN) if name in BROKEN_BY[line] else (actual < axioms.KEPT), (name, actual)


def clip(change: Callable[[nn.Module], None]) -> Model:
    model = tiny.fresh("clip")
    with torch.no_grad():
        change(model.module.double())
    return model


def values_shifted(module: nn.Module) -> None:
    for part in (module.vision_model, module.text_model):
        for block in part.encoder.layers:
            shift = torch.linspace(-1, 1, len(block.self_attn.v_proj.bias), dtype=torch.double)
            block.self_attn.v_proj.bias += shift
            block.self_attn.out_proj.bias -= block.self_attn.out_proj.weight @ shift


def words_shifted(module: nn.Module) -> None:
    """Add a vector to every word, and subtract it from every position."""
    parts = module.text_model.embeddings
    shift = torch.linspace(-1, 1, parts.token_embedding.weight.shape[1], dtype=torch.double)
    parts.token_embedding.weight += shift
    parts.position_embedding.weight -= shift


UNTOUCHED = ("nib", "nib, paper", "integrated_gradients", "mfaba", "occlusion")


FELT: dict[Callable[[nn.Module], None], tuple[tuple[Modality, ...], tuple[str, ...]]] = {
    values_shifted: (("image", "text"), (*GRADIENTS, "grad_eclip")),
    words_shifted: (("text",), ("fast_ig, textbook", "integrated_gradients, paper", "rise")),
}


@pytest.mark.parametrize("change", FELT)
def test_clip_can_be_changed_without_changing_its_function(change: Callable[[nn.Module], None]) -> None:
    modalities, breaking = FELT[change]
    plain, changed = clip(lambda module: None), clip(change)
    for modality in modalities:
        first, second = make_side(plain, modality), make_side(changed, modality)
        torch.testing.assert_close(first.trace.embedding, second.trace.embedding)
        for line in (*UNTOUCHED, *breaking):
            case = axioms.lines()[line]
            maps = [case.method(of.tower)(of).scores for of in (first, second)]
            apart = float((maps[0] - maps[1]).abs().max() / maps[0].abs().max())
            assert (apart > axioms.BROKEN) if line in breaking else (apart < axioms.KEPT), (line, apart)


def missed(of: Side, layer: int, method: NIB) -> Tensor:
    """Return the difference between the sum of all scores and the change of S from the baseline, relative to that
    change.
    """
    cut, path = of.cut(layer), method(of).path
    assert path is not None
    change = of.value() - at_end(of, "zero", None, cut, of.baseline(method.baseline, layer, cut.hidden))
    return ((all_tokens(path) - change) / change).abs()


@both_sides
@pytest.mark.parametrize("model", ["axioms", "clip"])
def test_paper_setting_of_nib_is_not_complete(model: str, modality: Modality) -> None:
    """The axioms of the paper hold for an integral. Toward zero, norms keep the state constant until close to the end
    of the path. Equal steps miss that end, however many there are; logarithmic steps that end near zero do not.
    """
    of = side(modality) if model == "axioms" else make_side(clip(lambda module: None), modality)
    layer = of.tower.relative(0.75)
    for steps in (10, 64):
        assert missed(of, layer, NIB((layer,), "zero", "riemann", steps)).max() > 0.5
    assert missed(of, layer, NIB((layer,), "zero", "geometric", 64, floor=1e-8)).max() < 1e-2
    assert missed(of, layer, NIB((layer,), "blank", "gauss", 10)).max() < 1e-2
    from_a_tenth = missed(of, layer, NIB((layer,), "zero", "geometric", 10))
    assert from_a_tenth.max() > 0.5, "the part above a tenth is not the whole"


def test_axioms_reject_maps_of_zeros() -> None:
    nothing = torch.zeros(BATCH, UNITS)
    with pytest.raises(AssertionError, match="prove nothing"):
        axioms._apart(nothing, nothing)
