"""Bridges to captum, Quantus, shapiq and pytorch-grad-cam, each with the real package."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

import nibt
from nibt.bridges.classifier import ZeroShotClassifier
from nibt.data.units import Grid
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.models._inputs import Inputs
from tests import tiny
from tests.helpers import assert_close
from tests.shared_models import module_state, shared
from tests.suites import few

CAPTIONS = ["a red cat on a mat", "two small cats"]
KINDS = ("clip", "siglip", "own vit", "timm eva", "convnext", "own resnet")
kinds = pytest.mark.parametrize("kind", few(KINDS, ("clip", "own resnet")))


@shared
def classifier(kind: str) -> ZeroShotClassifier:
    """Return the classifier of a small random model that all tests share."""
    return ZeroShotClassifier(tiny.model(kind), CAPTIONS)


def pixels(kind: str) -> torch.Tensor:
    return classifier(kind).prepare([tiny.image(64, 48), tiny.image(48, 64)])


@kinds
def test_outputs_are_the_similarities_of_the_model(kind: str) -> None:
    outputs = classifier(kind)(pixels(kind)).detach()
    for row, image in enumerate((tiny.image(64, 48), tiny.image(48, 64))):
        for column, caption in enumerate(CAPTIONS):
            explanation = nibt.explain(tiny.model(kind), image, caption, method="random")
            assert float(outputs[row, column]) == pytest.approx(explanation.similarity, abs=1e-5)


@kinds
def test_layer_integrated_gradients_of_captum_are_those_of_nib(kind: str) -> None:
    attr = pytest.importorskip("captum.attr")
    model, layer = classifier(kind), 1
    inputs = pixels(kind)
    method = attr.LayerIntegratedGradients(model, model.layer(layer))
    states = method.attribute(
        inputs,
        baselines=model.blank(inputs),
        target=torch.tensor([0, 1]),
        n_steps=8,
        method="gausslegendre",
    )
    states = states[0] if isinstance(states, tuple) else states
    tower = model.model.image
    tokens = tower.to_tokens(states) if states.ndim == 4 else states
    options = {"layer": layer, "steps": 8, "quadrature": "gauss", "views": 1, "baseline": "blank"}
    ours = model.explain(inputs, [0, 1], "nib", {**options, "distribute": False})
    assert isinstance(ours.units, Grid)
    assert_close(ours.scores, ours.units.keep(tokens.sum(-1)).detach())


def test_methods_of_nibt_are_attributions_of_captum() -> None:
    attr = pytest.importorskip("captum.attr")
    from nibt.bridges.captum import MapAttribution

    model, inputs = classifier("clip"), pixels("clip")
    method = MapAttribution(model, "nib", layer=1, steps=4, views=1)
    scores = method.attribute(inputs, target=[0, 1])
    assert scores.shape == inputs.shape
    expected = model.explain(inputs, [0, 1], "nib", {"layer": 1, "steps": 4, "views": 1}).scores.sum(1)
    assert torch.allclose(scores.flatten(1).sum(1), expected, atol=1e-5)
    smooth = attr.NoiseTunnel(method).attribute(inputs, nt_type="smoothgrad", nt_samples=2, stdevs=0.0, target=0)
    assert torch.allclose(smooth, method.attribute(inputs, target=0), atol=1e-6)


def test_scores_of_patches_are_on_their_pixels() -> None:
    model, inputs = classifier("clip"), pixels("clip")
    attribution = model.explain(inputs, 0, "occlusion", {})
    assert isinstance(attribution.units, Grid)
    spread = model.spread(attribution, inputs)
    rows, columns = attribution.units.rows, attribution.units.columns
    height, width = inputs.shape[-2] // rows, inputs.shape[-1] // columns
    tiles = spread.unfold(2, height, height).unfold(3, width, width).sum((-1, -2)).flatten(1)
    assert_close(tiles, attribution.scores)


@pytest.mark.slow
def test_metrics_of_quantus_take_maps_of_nibt() -> None:
    quantus = pytest.importorskip("quantus")
    from nibt.bridges.quantus import explain_func

    model, inputs = classifier("clip"), pixels("clip").numpy()
    maps = explain_func(model, inputs, np.array([0, 1]), method="nib", layer=1, steps=2, views=1)
    assert maps.shape == (2, 1, *inputs.shape[2:])
    options = {"method": "nib", "layer": 1, "steps": 2, "views": 1}
    metric = quantus.PixelFlipping(features_in_step=inputs.shape[-1], disable_warnings=True, display_progressbar=False)
    values = metric(
        model=model, x_batch=inputs, y_batch=np.array([0, 1]), explain_func=explain_func, explain_func_kwargs=options
    )
    of_maps = metric(model=model, x_batch=inputs, y_batch=np.array([0, 1]), a_batch=maps)
    assert np.allclose(values, of_maps)
    with pytest.raises(BadInput, match=r"model must be a ZeroShotClassifier"):
        explain_func(torch.nn.Identity(), inputs, np.array([0, 1]))


@pytest.mark.parametrize("kind", few(("clip", "own vit", "timm eva"), ("clip",)))
def test_grad_cam_of_its_package_is_that_of_nibt(kind: str) -> None:
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, inputs = copy.deepcopy(classifier(kind)), pixels(kind)  # the package leaves gradients on the weights
    model.requires_grad_(False)  # as in models that nibt loads from a folder
    with package.GradCAM(model, [model.layer(2)], reshape_transform=model.reshape_transform) as cam:
        cam(input_tensor=inputs, targets=[ClassifierOutputTarget(0), ClassifierOutputTarget(1)])
        activations, gradients = (
            values[0] for values in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
        )
        maps = cam.get_cam_image(inputs, model.layer(2), None, activations.numpy(), gradients.numpy(), False)
    ours = model.explain(inputs, [0, 1], "grad_cam:textbook", {"layer": 2, "views": 1})
    assert isinstance(ours.units, Grid)
    expected = torch.from_numpy(np.maximum(maps, 0)).float()
    assert_close(ours.units.unfold(ours.scores), expected, 1e-4)


def test_game_of_shapiq_is_the_similarity_without_units() -> None:
    pytest.importorskip("shapiq")
    from nibt.bridges.shapiq import SimilarityGame

    game = SimilarityGame(tiny.model("clip"), tiny.image(64, 48), CAPTIONS[0])
    explanation = nibt.explain(tiny.model("clip"), tiny.image(64, 48), CAPTIONS[0], method="occlusion")
    full = np.ones((1, game.n_players), bool)
    assert float(game.value_function(full)[0]) == pytest.approx(explanation.similarity, abs=1e-5)
    without = np.ones((game.n_players, game.n_players), bool)
    np.fill_diagonal(without, False)
    drops = explanation.similarity - game.value_function(without)
    assert np.allclose(drops[: game.patches], explanation.grid.flatten().numpy(), atol=1e-5)
    assert np.allclose(drops[game.patches :], [word.score for word in explanation.words], atol=1e-5)
    assert float(game(np.zeros(game.n_players, bool))[0]) == pytest.approx(0, abs=1e-6)


def test_kernel_shap_of_shapiq_on_the_game_is_the_method() -> None:
    shapiq = pytest.importorskip("shapiq")
    from nibt.bridges.shapiq import SimilarityGame

    game = SimilarityGame(tiny.model("clip"), tiny.image(64, 48), CAPTIONS[0])
    words = range(game.patches, game.n_players)

    def of_words(coalitions: np.ndarray) -> np.ndarray:
        full = np.ones((len(coalitions), game.n_players), bool)
        full[:, list(words)] = coalitions
        return game.value_function(full)

    values = shapiq.ExactComputer(of_words, n_players=len(words))("SV")
    explanation = nibt.explain(tiny.model("clip"), tiny.image(64, 48), CAPTIONS[0], method="shapley")
    expected = [word.score for word in explanation.words]
    assert np.allclose([values[(player,)] for player in range(len(words))], expected, atol=1e-4)


@pytest.mark.slow
def test_tables_are_interactions_of_shapiq_and_back() -> None:
    pytest.importorskip("shapiq")
    from nibt.bridges.shapiq import from_interactions, to_interactions

    regions = nibt.regions(tiny.model("clip"), tiny.image(64, 48), CAPTIONS[0])
    values = to_interactions(regions)
    patches = regions.table[0].numel()
    assert values[(3, patches + 2)] == pytest.approx(float(regions.table[2].flatten()[3]))
    back = from_interactions(values, regions)
    assert torch.allclose(back.table, regions.table)
    assert back.method["name"] == "shapiq FBII"
    assert float(back.scores.sum()) == pytest.approx(float(regions.table.sum()), abs=1e-5)
    with pytest.raises(BadInput, match=r"must have \d+ patches and 5 words as players"):
        from_interactions(values, nibt.regions(tiny.model("clip"), tiny.image(64, 48), "one two three four five"))


def test_copies_have_their_own_weights() -> None:
    plain = tiny.KINDS["clip"]()
    model = ZeroShotClassifier(nibt.load_model(plain.module, processor=plain.processor), CAPTIONS)
    inputs = model.prepare([tiny.image()])
    before, state = model(inputs), module_state(model.module)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.module.parameters():
            parameter.mul_(0.5)
    assert not torch.allclose(twin(inputs), before)
    assert torch.equal(model(inputs), before)
    assert module_state(model.module) == state


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (2, "target must be between 0 and 1"),
        (-1, "target must be between 0 and 1"),
        ([0, 1, 0], "one for each of 2 images"),
        (0.5, "must be the number of a caption"),
        (None, "must be the number of a caption"),
        ("cat", "must be the number of a caption"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_targets_are_one_error(targets: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        classifier("clip").explain(pixels("clip"), targets, "occlusion", {})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pixels: pixels[:, :1], "float32 tensor of .batch, 3, height, width."),
        (lambda pixels: pixels[0], "float32 tensor"),
        (lambda pixels: pixels.double(), "float32 tensor"),
        (lambda pixels: pixels.numpy(), "float32 tensor"),
        (lambda pixels: pixels * torch.nan, "must be finite"),
        (lambda pixels: pixels[:0], "at least 1 x 3 x"),
        (lambda pixels: pixels[..., :0, :0], "at least 1 x 3 x"),
        (lambda pixels: pixels[..., :3, :], "at least 1 x 3 x"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_wrong_pixels_are_one_error(change: Any, message: str) -> None:
    pytest.importorskip("captum")
    from nibt.bridges.captum import MapAttribution

    wrong = change(pixels("clip"))
    with pytest.raises(BadInput, match=message):
        classifier("clip")(wrong)
    with pytest.raises(BadInput, match=message):
        MapAttribution(classifier("clip"), "occlusion").attribute(wrong, target=0)


def test_captions_are_encoded_again_after_a_change_of_the_weights() -> None:
    model = ZeroShotClassifier(tiny.fresh("clip"), CAPTIONS)
    inputs = model.prepare([tiny.image(64, 48)])
    before = model(inputs)
    with torch.no_grad():
        model.model.text.example.mul_(3)
    expected = [nibt.explain(model.model, tiny.image(64, 48), text, method="random").similarity for text in CAPTIONS]
    assert model(inputs)[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert not torch.allclose(model(inputs), before)
    assert torch.allclose(model.embeddings, ZeroShotClassifier(model.model, CAPTIONS).embeddings)


@pytest.mark.usefixtures("unchecked")
def test_attributions_of_captum_take_one_input() -> None:
    pytest.importorskip("captum")
    from nibt.bridges.captum import MapAttribution

    inputs = pixels("clip")
    for several in ((), (inputs, inputs)):
        with pytest.raises(BadInput, match="one tensor of pixels"):
            MapAttribution(classifier("clip"), "occlusion").attribute(several, target=0)


@pytest.mark.usefixtures("unchecked")
def test_games_of_shapiq_take_coalitions_of_their_players_only() -> None:
    pytest.importorskip("shapiq")
    from nibt.bridges.shapiq import SimilarityGame

    model = tiny.fresh("clip")
    game = SimilarityGame(model, tiny.image(64, 48), CAPTIONS[0])
    for wrong in (np.full((1, game.n_players), value) for value in (np.nan, 0.5, 2, "yes", None)):
        with pytest.raises(BadInput, match="coalitions must be a table of true and false"):
            game.value_function(wrong)
    for players in (0, game.n_players - 1, game.n_players + 1):
        with pytest.raises(BadInput, match="coalitions must be a table of true and false"):
            game.value_function(np.ones((1, players), bool))
    with torch.no_grad():
        model.image.example.mul_(3)
    with pytest.raises(BadInput, match="make a new game"):
        game.value_function(np.ones((1, game.n_players), bool))


def test_interactions_of_other_games_are_refused() -> None:
    shapiq = pytest.importorskip("shapiq")
    from nibt.bridges.shapiq import from_interactions

    regions = nibt.regions(tiny.model("clip"), tiny.image(64, 48), CAPTIONS[0])
    count = regions.table[0].numel() + len(regions.table)
    for wrong in ({(0, count): 1.0}, {(-1, 3): 1.0}, {(0, count - 1): np.nan}, {(0, count - 1): np.inf}, {(0,): 1.0}):
        values = shapiq.InteractionValues(wrong, index="FBII", max_order=2, min_order=1, n_players=count)
        with pytest.raises(BadInput, match="finite interactions of order two"):
            from_interactions(values, regions)


def test_metrics_of_captum_take_maps_of_nibt() -> None:
    metrics = pytest.importorskip("captum.metrics")
    from nibt.bridges.captum import MapAttribution

    method = MapAttribution(classifier("clip"), "occlusion")
    values = metrics.sensitivity_max(method.attribute, pixels("clip"), n_perturb_samples=1, target=0)
    assert values.shape == (2,)
    assert bool(values.isfinite().all())


def test_classifier_stays_in_evaluation_mode() -> None:
    assert not any(part.training for part in classifier("clip").train().modules())


@pytest.mark.usefixtures("unchecked")
def test_wrong_models_and_layers_are_one_error() -> None:
    with pytest.raises(BadInput, match="captions must have at least one caption"):
        ZeroShotClassifier(tiny.model("clip"), [])
    for number in (0, 99, 1.5):
        with pytest.raises(BadOption, match="layer must be between 1 and"):
            classifier("clip").layer(number)  # pyright: ignore
    with pytest.raises(BadInput, match="images must have at least one image"):
        classifier("clip").prepare([])
    with pytest.raises(Unsupported, match="takes patches instead of pixels"):
        ZeroShotClassifier(tiny.model("siglip naflex"), CAPTIONS).prepare([tiny.image()])


def test_map_of_states_has_the_grid_of_the_last_pixels() -> None:
    """A model that takes images of several sizes has grids of several sizes."""
    loaded = nibt.load_model("scenes", resize="whole")
    model = ZeroShotClassifier(loaded, CAPTIONS)
    with pytest.raises(BadInput, match="call the classifier first"):
        model.reshape_transform(torch.zeros(1, 65, 8))
    for size in ((128, 64), (64, 128)):
        inputs = model.prepare([tiny.image(*size)])
        states: list[torch.Tensor] = []
        handle = model.layer(1).register_forward_hook(lambda _, args, out, states=states: states.append(out))
        model(inputs)
        handle.remove()
        grid = loaded.image.units(Inputs(inputs), states[0])
        assert isinstance(grid, Grid)
        assert model.reshape_transform(states[0]).shape[2:] == (grid.rows, grid.columns)
