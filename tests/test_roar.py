"""ROAR+: what is hidden, what is trained, that forms agree where they must, that a run goes on with the same bits."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import nibt
import tiny
from helpers import check_page, noise_pairs
from nibt.data.pair import Object, Pair
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, OtherRequest, UnknownName, Unsupported, WouldOverwrite
from nibt.evaluation.audit.randomization import copied
from nibt.evaluation.maps import MethodSpec, raw_scores
from nibt.evaluation.roar import RoarRunner
from nibt.evaluation.roar.bootstrap import Bootstrap, stats, taus_of
from nibt.evaluation.roar.inputs import TowerInputs
from nibt.evaluation.roar.removal import above, filled, hidden, hidden_pixels, highest
from nibt.evaluation.roar.report import markdown
from nibt.evaluation.roar.settings import Settings
from nibt.evaluation.roar.trainers import KINDS, Last, Trainer, Whole
from nibt.evaluation.roar.training import fitting, losses, split, trained, untrained
from nibt.methods.base import SIDES
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress
from nibt.results.roar import Roar
from nibt.types import Modality

pytest.importorskip("scipy", reason="rankings are compared with scipy")

QUICK = {"epochs": 1, "batch_size": 4, "explain_batch": 5}


def materials(model: Model, pairs: list[Pair]) -> dict[Modality, TowerInputs]:
    return {
        "image": TowerInputs.of(model.image, [pair.image for pair in pairs]),
        "text": TowerInputs.of(model.text, [pair.caption for pair in pairs]),
    }


def without(model: Model, pairs: list[Pair], whole: dict[Modality, TowerInputs]) -> dict[Modality, TowerInputs]:
    scores = raw_scores(model, pairs, MethodSpec("random"), 0, 5)
    return {side: whole[side].without(model.tower(side), scores[side], 75, 0) for side in SIDES}


# --------------------------------------------------------------------------------------------------- what is hidden


@pytest.mark.parametrize(
    ("count", "percentile"), [(1, 90), (2, 90), (11, 90), (12, 90), (31, 90), (16, 75), (4096, 75)]
)
def test_as_many_go_as_lie_above_the_percentile_of_different_numbers(count: int, percentile: int) -> None:
    numbers = np.random.default_rng(0).permutation(count).astype(float)
    assert above(count, percentile) == max(1, int((numbers > np.percentile(numbers, percentile)).sum()))


def test_equal_scores_go_by_the_other_map_then_from_the_first() -> None:
    scores, ties = np.array([2.0, 1.0, 1.0, 1.0, -5.0]), np.array([0.0, 0.1, 0.9, 0.1, 1.0])
    assert highest(scores, ties, 1).tolist() == [True, False, False, False, False]
    assert highest(scores, ties, 2).tolist() == [True, False, True, False, False]
    assert highest(scores, ties, 3).tolist() == [True, True, True, False, False]
    assert highest(np.zeros(3), np.zeros(3), 2).tolist() == [True, True, False]


def test_pixels_by_hand() -> None:
    """Stretched over 4 x 4, the corner of the highest unit has 0.75^2 + ... of it: a quarter of 16 pixels is above."""
    grid = np.array([[0.0, 0.0], [0.0, 1.0]])
    rows = np.array([0.0, 0.25, 0.75, 1.0])  # the weight of the second unit along a line of four pixels
    stretched = rows[:, None] * rows[None]
    gone = hidden_pixels(grid, np.zeros((2, 2)), (4, 4), 75)
    assert gone.sum() == 4
    assert np.array_equal(gone, stretched >= np.sort(stretched.ravel())[-4])


def test_a_map_that_is_the_same_everywhere_hides_what_the_other_map_says() -> None:
    ties = np.random.default_rng(0).random((4, 4))
    flat = hidden_pixels(np.full((4, 4), 0.3), ties, (30, 30), 75)
    assert np.array_equal(flat, hidden_pixels(ties, np.zeros((4, 4)), (30, 30), 75))


@pytest.mark.parametrize("kind", ["clip", "clip legacy end", "siglip", "coca", "bert"])
def test_of_words_the_highest_go_and_special_tokens_stay(kind: str) -> None:
    tower = tiny.model(kind).text
    inputs = tower.prepare(["a photo of a cat and a dog", "cat"])
    assert inputs.words is not None
    counts = inputs.words.explained.sum(1).tolist()
    scores = [np.arange(count, dtype=float) for count in counts]
    gone = hidden(tower, inputs, scores, 90, 0)
    assert not (gone & ~inputs.words.explained).any()
    for row, count in zip(gone, counts, strict=True):
        assert int(row.sum()) == above(count, 90)
    assert gone[1].nonzero().max() == inputs.words.explained[1].nonzero().max()
    part = TowerInputs.of(tower, ["a photo of a cat and a dog", "cat"]).without(tower, scores, 90, 0).groups[0]
    told = part.through(tower, tower.encode)
    with tower.blend_to_padding((~gone).float()):
        assert torch.equal(told, tower.encode(inputs))


@pytest.mark.parametrize("kind", ["clip", "siglip naflex", "own vit oblong", "resnet"])
def test_pixels_become_the_means_of_the_picture(kind: str) -> None:
    tower = tiny.model(kind).image
    inputs = tower.prepare([tiny.image(seed=1), tiny.image(seed=2)])
    gone = torch.zeros(2, *tower.extent(inputs), dtype=torch.bool)
    assert torch.equal(filled(tower, inputs, gone).values, inputs.values)
    all_gone = filled(tower, inputs, ~gone)
    flat = filled(tower, all_gone, ~gone)
    torch.testing.assert_close(flat.values, all_gone.values)  # the mean of means is the mean
    if inputs.values.ndim == 4:
        torch.testing.assert_close(all_gone.values, inputs.values.mean((2, 3), keepdim=True).expand_as(inputs.values))
    gone[:, :8, :8] = True
    assert not torch.equal(filled(tower, inputs, gone).values, inputs.values)


# ---------------------------------------------------------------------------------------------------------- the loss


def test_captions_that_fit_are_no_negatives() -> None:
    one, two = tiny.image(seed=1), tiny.image(seed=2)
    cat, dog = Object("cat", (0, 0, 4, 4), spans=((2, 5),)), Object("dog", (0, 0, 4, 4))
    pairs = [
        Pair(one, "a cat", (cat, dog)),
        Pair(two, "A  cat", (replace(cat),)),
        Pair(one, "a dog"),
        Pair(tiny.image(seed=3), "a dog", (replace(dog, spans=((2, 5),)),)),
        Pair(tiny.image(seed=4), "a cow", (dog,), absent=((2, 5),)),
    ]
    fits = fitting(pairs)
    assert fits.tolist() == [
        [False, True, True, True, False],  # the same words, the same image, a dog that it shows
        [True, False, False, False, False],
        [True, False, False, True, False],
        [False, False, True, False, False],
        [False, False, False, True, False],
    ]


def test_the_loss_is_clips_without_what_fits() -> None:
    draws = torch.Generator().manual_seed(0)
    image, text = (torch.randn(4, 6, generator=draws) for _ in range(2))
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    logits = 20 * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    own = torch.arange(4)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(losses(image, text, 20.0, nothing).mean(), expected)
    fits = nothing.clone()
    fits[0, 1] = True
    row, column = logits[0, [0, 2, 3]], logits[[1, 2, 3], 1]
    found = losses(image, text, 20.0, fits)
    plain = losses(image, text, 20.0, nothing)
    torch.testing.assert_close(found[0] - plain[0], (torch.logsumexp(row, 0) - torch.logsumexp(logits[0], 0)) / 2)
    torch.testing.assert_close(found[1] - plain[1], (torch.logsumexp(column, 0) - torch.logsumexp(logits[:, 1], 0)) / 2)
    assert torch.equal(found[2:], plain[2:])


def test_splits_share_nothing_and_differ_between_repeats() -> None:
    settings = Settings()
    train, check = split(50, settings, 0)
    assert (len(train), len(check)) == (40, 10)
    assert sorted([*train, *check]) == list(range(50))
    assert split(50, settings, 1)[1].tolist() != check.tolist()


# --------------------------------------------------------------------------------------------------------- the forms


@pytest.mark.parametrize(
    "kind", ["clip", "siglip", "siglip naflex", "own vit", "own resnet", "coca", "bert", "m2m", "timm vit", "convnext"]
)
def test_every_form_begins_with_the_models_own_embeddings_and_can_be_trained(kind: str) -> None:
    model, pairs = tiny.model(kind), noise_pairs(5)
    told = replace(model, _hashes={}).weights_hash
    whole = materials(model, pairs)
    gone = without(model, pairs, whole)
    order = [3, 0, 4]
    found: dict[str, dict[Modality, torch.Tensor]] = {}
    for name, form_of in KINDS.items():
        form = form_of(model, whole, None, 2)
        for side in SIDES:
            for state, material in (("whole", whole[side]), ("gone", gone[side])):
                embedding = form.embed(side, form.source(side, material), order)
                found.setdefault(f"{side} {state}", {})[name] = embedding  # pyright: ignore
                grads = torch.autograd.grad(embedding.square().sum(), form.parameters, allow_unused=True)
                assert any(one is not None and one.abs().max() > 0 for one in grads), (name, side)
    for where, by_form in found.items():
        side, state = where.split()
        tower = model.tower(side)  # pyright: ignore
        items = [(pairs[n].image if side == "image" else pairs[n].caption) for n in order]
        if state == "whole":
            own = torch.cat([tower.encode(tower.prepare([item])) for item in items])
            torch.testing.assert_close(by_form["features"].detach(), own, atol=2e-4, rtol=2e-4)  # pyright: ignore
        for embedding in by_form.values():
            torch.testing.assert_close(embedding, by_form["features"], atol=2e-4, rtol=2e-4)  # pyright: ignore
    assert replace(model, _hashes={}).weights_hash == told
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())
    assert all(one.grad is None for one in model.module.parameters())


def trained_by(
    form: Trainer, whole: dict[Modality, TowerInputs], gone: dict[Modality, TowerInputs], count: int
) -> list[float]:
    settings = Settings(rates={"last": 1e-3, "whole": 1e-3}, epochs=2, batch_size=4)
    fed = {side: form.source(side, gone[side]) for side in SIDES}
    untouched = {side: form.source(side, whole[side]) for side in SIDES}
    return trained(form, fed, untouched, np.zeros((count, count), bool), settings, 0)


class Through(Whole):
    """The same parameters as ``last``, trained through the whole forward pass."""

    name = "last"


@pytest.mark.parametrize(("kind", "blocks"), [("clip", 1), ("clip", 3), ("siglip naflex", 2), ("own resnet", 1)])
def test_cached_streams_train_as_the_whole_forward_pass_does(kind: str, blocks: int) -> None:
    model, pairs = tiny.model(kind), noise_pairs(12)
    whole = materials(model, pairs)
    gone = without(model, pairs, whole)
    one, other = Last(model, whole, blocks, 5), Through(model, whole, blocks, 5)
    assert one.count == other.count
    found = [trained_by(form, whole, gone, len(pairs)) for form in (one, other)]
    np.testing.assert_allclose(*found, atol=2e-3)
    start = (
        losses(
            *(model.tower(side).encode(whole[side].groups[0].inputs) for side in SIDES),
            model.scale,
            torch.zeros(len(pairs), len(pairs), dtype=torch.bool),
        )
        if kind == "clip"
        else None
    )
    if start is not None:
        check = split(len(pairs), Settings(), 0)[1]
        assert np.abs(np.array(found[0]) - start[check].numpy()).max() > 0.01, "training changed something"


def test_last_with_all_blocks_trains_all_but_the_stem() -> None:
    model = tiny.model("clip")
    whole = materials(model, noise_pairs(4))
    last, every = Last(model, whole, 3, 4), Whole(model, whole, None, 4)
    assert last.own is not None
    assert every.own is not None
    names = [
        {name for name, one in form.own.module.named_parameters() if one.requires_grad}  # pyright: ignore
        for form in (last, every)
    ]
    known = ("embedding", "pre_layrnorm", "text_model.encoder.layers.0.")  # of four blocks of text three are trained
    assert names[1] - names[0] == {name for name in names[1] if any(part in name for part in known)}
    assert names[0] < names[1]
    assert "logit_scale" not in names[1], "the scale is held still"


# ----------------------------------------------------------------------------------------------- what it must find out


@pytest.fixture(scope="module")
def scenes() -> tuple[list[Pair], list[np.ndarray], list[np.ndarray]]:
    """Scenes, and maps that know where the named objects are, and which tokens name them."""
    pairs = list(Scenes(count=110, seed=11, fewest=1, most=3, named="all"))
    text = load_model("scenes").text
    grids, tokens = [], []
    for pair in pairs:
        mask = np.any([thing.mask for thing in pair.objects if thing.mask is not None], axis=0)
        grids.append(mask.reshape(8, 16, 8, 16).mean((1, 3)).astype(np.float32))
        words = text.prepare([pair.caption]).words
        assert words is not None
        nouns = {part for thing in pair.objects for part in thing.name.split()}
        named = [row for word in words.words[0] if word.text in nouns for row in word.tokens]
        one = torch.zeros(words.explained.shape[1])
        one[named] = 1
        tokens.append(one[words.explained[0]].numpy())
    return pairs, grids, tokens


def test_a_map_that_knows_the_truth_beats_a_random_one(
    scenes: tuple[list[Pair], list[np.ndarray], list[np.ndarray]], tmp_path: Path
) -> None:
    pairs, grids, tokens = scenes
    settings = Settings(rates={"features": 1e-3}, validation=30, epochs=8, start="fresh")
    run = RoarRunner(
        load_model("scenes"),
        pairs,
        [MethodSpec("nib"), MethodSpec("random"), MethodSpec("ones")],
        ["features"],
        ("image", "text"),
        2,
        settings,
        tmp_path,
        {},
    )
    run.folder.maps("nib", lambda: {"image": grids, "text": tokens})
    run.go(lambda *_: None)
    found = {(gain.method, gain.hidden): gain for gain in run.result().gains}
    for kind in ("image", "text"):
        assert found["nib", kind].low > 0.1, "it does not learn what it does not see"
        assert found["nib", kind].beats_random
        assert abs(found["ones", kind].lead) < found["nib", kind].lead / 2, "equal scores hide what random ones do"


# ------------------------------------------------------------------------------------------------------------ the run


def test_a_run_that_was_killed_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    def killed(limit: int) -> OnProgress:
        def tell(progress: Progress) -> None:
            if progress.done >= limit:
                raise KeyboardInterrupt

        return tell

    options = {"form": ("features", "last"), "hidden": ("text",), "repeats": 2, **QUICK}
    whole = nibt.roar(tiny.fresh("clip"), noise_pairs(12), "grad_cam", out=tmp_path / "one", **options)
    for limit in (1, 6, 13):
        with pytest.raises(KeyboardInterrupt):
            nibt.roar(
                tiny.fresh("clip"),
                noise_pairs(12),
                "grad_cam",
                out=tmp_path / "two",
                on_progress=killed(limit),
                **options,
            )
    (tmp_path / "two" / "cells" / ".draft.json").write_text("half")  # what a kill in the midst leaves
    again = nibt.roar(tiny.fresh("clip"), noise_pairs(12), "grad_cam", out=tmp_path / "two", **options)
    assert again.gains == whole.gains
    assert again.agreements == whole.agreements
    kept = [
        {file.name: json.loads(file.read_text())["losses"] for file in (tmp_path / name / "cells").glob("[a-z]*")}
        for name in ("one", "two")
    ]
    assert kept[0] == kept[1]
    assert len(kept[0]) == 2 * 2 * (1 + 4)
    seen: list[str] = []
    nibt.roar(
        tiny.fresh("clip"),
        noise_pairs(12),
        "grad_cam",
        out=tmp_path / "two",
        **options,
        on_progress=lambda progress: seen.append(progress.stage),
    )
    assert seen == ["done"]
    more = nibt.roar(tiny.fresh("clip"), noise_pairs(12), ["grad_cam", "nib:paper"], out=tmp_path / "two", **options)
    assert {gain.method for gain in more.gains} - {gain.method for gain in whole.gains} == {"nib:paper"}
    assert [gain for gain in more.gains if gain.method != "nib:paper"] == list(whole.gains)


def test_the_model_and_the_generators_are_left_as_they_were(tmp_path: Path) -> None:
    model = tiny.fresh("clip")
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    flags = [one.requires_grad for one in model.module.parameters()]
    told, state = replace(model, _hashes={}).weights_hash, torch.get_rng_state()
    with torch.no_grad():
        found = nibt.roar(
            model,
            noise_pairs(12),
            "ones",
            out=tmp_path / "run",
            form=["features", "last", "whole"],
            repeats=1,
            rate=1e-3,
            hidden="both",
            **QUICK,
        )
        assert not torch.is_grad_enabled()
    assert replace(model, _hashes={}).weights_hash == told == found.model["weights_hash"]
    assert all(torch.equal(value, before[name]) for name, value in model.module.state_dict().items())
    assert [one.requires_grad for one in model.module.parameters()] == flags
    assert not any(part.training or part._forward_hooks or part._forward_pre_hooks for part in model.module.modules())
    assert all(one.grad is None for one in model.module.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(training.after != training.before for training in found.trainings)


def test_what_was_found_can_be_kept_and_read(tmp_path: Path) -> None:
    found = nibt.roar(
        tiny.model("clip"), noise_pairs(12), out=tmp_path / "run", form=["features", "last"], hidden="both", **QUICK
    )
    found.save(tmp_path / "x.json")
    back = Roar.load(tmp_path / "x.json")
    assert back.gains == found.gains
    assert back.agreements == found.agreements
    assert back.trainings == found.trainings
    assert json.loads(json.dumps(back.to_json())) == json.loads(json.dumps(found.to_json()))
    assert [gain.method for gain in found.gains if gain.control] == ["random", "centre", "ones"] * 2
    text = markdown(found)
    for word in ("75th", "90th", "Adam", "padding token", "repeats", "Kendall", "ones (control)", "features, last"):
        assert word in text, word
    with pytest.raises(BadInput, match="no result of nibt roar"):
        Roar.load(tmp_path / "run" / "settings.json")


def test_refusals(tmp_path: Path) -> None:
    model, pairs = tiny.model("clip"), noise_pairs(12)
    run = tmp_path / "run"
    with pytest.raises(BadInput, match="at least 10 pairs"):
        nibt.roar(model, pairs[:9], out=run)
    with pytest.raises(UnknownName, match="Did you mean 'nib'"):
        nibt.roar(model, pairs, "nibb", out=run)
    with pytest.raises(UnknownName, match="epochs"):
        nibt.roar(model, pairs, out=run, epoch=1)
    for wrong, told in (
        ({"form": "head"}, "features, last, whole"),
        ({"hidden": ()}, "at least one hidden"),
        ({"repeats": 0}, "at least 1"),
        ({"rate": 2.0}, "between 0 and 1"),
        ({"epochs": 0}, "at least"),
        ({"rate": {"lst": 0.1}}, "lst"),
        ({"validation": 100}, r"1\.\.99"),
        ({"batch_size": 1}, "2"),
        ({"start": "again"}, "trained, fresh"),
        ({"form": "last", "blocks": 4}, r"1\.\.3"),
    ):
        with pytest.raises(BadOption, match=told):
            nibt.roar(model, pairs, out=run, **wrong)  # pyright: ignore
    half = copied(model)
    half.module.half()
    with pytest.raises(Unsupported, match="float32"):
        nibt.roar(half, pairs, out=run)
    assert not run.exists(), "what cannot be leaves no folder"
    (tmp_path / "file").write_text("")
    with pytest.raises(WouldOverwrite, match="is a file"):
        nibt.roar(model, pairs, out=tmp_path / "file", **QUICK)
    with pytest.raises(WouldOverwrite, match="not empty"):
        nibt.roar(model, pairs, out=tmp_path, **QUICK)


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    run, model = tmp_path / "run", tiny.model("clip")
    nibt.roar(model, noise_pairs(12), "ones", out=run, repeats=1, hidden="text", **QUICK)
    for other in ({"epochs": 2}, {"rate": 1e-2}, {"seed": 1}, {"text_percentile": 80}):
        with pytest.raises(OtherRequest, match=r"(?s)choices.*now.*Choose a new folder"):
            nibt.roar(model, noise_pairs(12), "ones", out=run, repeats=1, hidden="text", **{**QUICK, **other})
    with pytest.raises(OtherRequest, match="pairs: "):
        nibt.roar(model, noise_pairs(11), "ones", out=run, repeats=1, hidden="text", **QUICK)
    with pytest.raises(OtherRequest, match="weights_hash"):
        nibt.roar(tiny.model("siglip"), noise_pairs(12), "ones", out=run, repeats=1, hidden="text", **QUICK)


def test_training_that_comes_apart_is_told() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(12)
    form = KINDS["features"](model, materials(model, pairs), None, 5)
    untouched = {side: form.source(side, materials(model, pairs)[side]) for side in SIDES}
    fed = {side: source * torch.nan for side, source in untouched.items()}
    with pytest.raises(BadOption, match=r"smaller rate than 0\.0001"):
        trained(form, fed, untouched, np.zeros((12, 12), bool), Settings(), 0)


def test_a_fresh_start_knows_nothing_and_is_the_same_again() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(12)
    whole = materials(model, pairs)
    for form_of in KINDS.values():
        form = form_of(model, whole, None, 5)
        sources = {side: form.source(side, whole[side]) for side in SIDES}
        nothing, fresh = np.zeros((12, 12), bool), Settings(start="fresh")
        seen = []
        for repeat in (0, 1, 0):
            before = untrained(form, sources, nothing, fresh, repeat)
            seen.append((before, trained(form, sources, sources, nothing, fresh, repeat)))
        assert seen[0] == seen[2]
        assert seen[0] != seen[1]
        plain = untrained(form, sources, nothing, Settings(), 0)
        assert np.abs(np.subtract(seen[0][0], plain)).max() > 0.1


# ------------------------------------------------------------------------------------------------------- the numbers


def test_numbers_and_rankings_by_hand() -> None:
    draws = np.random.default_rng(0)
    base = draws.uniform(0.9, 1.1, (3, 8))
    factors = {"a": 1.3, "b": 1.2, "c": 1.1, "random": 1.0}
    losses_of = {("features", "", ""): base, ("whole", "", ""): 2 * base}
    for name, factor in factors.items():
        losses_of["features", name, "both"] = factor * base
        losses_of["whole", name, "both"] = 2 * (2.5 - factor) * base  # the other way round
    resampled = Bootstrap(losses_of, 0)
    for gain in resampled.gains():
        factor = factors[gain.method] if gain.form == "features" else 2.5 - factors[gain.method]
        np.testing.assert_allclose([gain.value, gain.low, gain.high], factor - 1, atol=1e-12)
        assert gain.beats_random == (gain.form == "features" and gain.method != "random")
    taus = {(one.form, one.other, one.controls): one for one in resampled.agreements()}
    for controls in (True, False):
        assert taus["features", "whole", controls].tau == taus["features", "whole", controls].high == -1
        assert taus["features", "features", controls].tau == 1
    assert taus["features", "whole", True].methods == 4


def test_many_taus_are_scipys() -> None:
    one, other = (np.random.default_rng(seed).integers(0, 5, (50, 7)).astype(float) for seed in (0, 1))
    one[0] = 1.0  # all equal: none
    expected = [stats().kendalltau(*both).statistic for both in zip(one, other, strict=True)]
    np.testing.assert_allclose(taus_of(one, other), expected, atol=1e-12)


def test_the_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    arguments = (
        "roar",
        "scenes",
        "scenes",
        "--count",
        12,
        "--method",
        "ones",
        "--repeats",
        1,
        "--epochs",
        1,
        "--hide",
        "both",
        "--rate",
        "features=1e-4",
        "--out",
        "RUN",
    )
    code, out, _ = run(*arguments)
    assert code == 0
    assert "Form features" in out
    assert "0.0001" in out
    for name in ("report.md", "report.html", "result.json", "settings.json", "provenance.json"):
        assert (Path("RUN") / name).is_file()
    assert "://" not in check_page(Path("RUN/report.html").read_text())
    assert Roar.load("RUN/result.json").data["pairs"] == 12
    code, _, told = run(*[2 if before == "--epochs" else word for before, word in pairwise(("", *arguments))])
    assert (code, "choices.epochs: 1 (now 2)" in told) == (2, True)
    for wrong, message in ((("--rate", "x"), "must be a number"), (("--form", "all"), "features, last, whole")):
        code, _, told = run("roar", "scenes", "--out", "NEW", "--count", 12, *wrong)
        assert (code, message in told) == (2, True), told
    code, _, told = run("roar", "scenes")
    assert (code, "--out RUN" in told) == (2, True)
