"""Folders of sentence-transformers with modules after the encoder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import nibt
from nibt.errors import CannotLoad
from nibt.models._attention import record_attentions
from nibt.models._vision_language.prompts import _pooling_file
from nibt.models.base import Model
from tests import tiny, tiny_vision_language
from tests.helpers import assert_close, make_inputs
from tests.hub import Hub
from tests.models.saved import answers, edit, save
from tests.suites import few

CLIP_MODULES = {
    "encoder": lambda modules, width: [],
    "unit length": lambda modules, width: [modules.Normalize()],
    "linear": lambda modules, width: [modules.Dense(width, 5, activation_function=nn.Identity()), modules.Normalize()],
    "residual": lambda modules, width: [modules.Dense(width, width, activation_function=None, use_residual=True)],
}
PREFIX = "sentence_transformers.models."
IDENTITY = "torch.nn.modules.linear.Identity"


def dense(folder: Path, inside: int, outside: int, as_bin: bool = False, **config: Any) -> dict[str, Tensor]:
    """Write a ``Dense`` module as sentence-transformers does, and return its weights."""
    sizes = {"in_features": inside, "out_features": outside}
    config = {**sizes, "bias": True, "activation_function": IDENTITY, **config}
    draws = torch.Generator().manual_seed(outside)
    weights = {"linear.weight": torch.randn(outside, inside, generator=draws)}
    if config["bias"]:
        weights["linear.bias"] = torch.randn(outside, generator=draws)
    if config.get("use_residual") and inside != outside:
        weights["residual.weight"] = torch.randn(outside, inside, generator=draws)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if as_bin:
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        save_file(weights, folder / "model.safetensors")
    return weights


def list_modules(folder: Path, *modules: tuple[str, str]) -> None:
    entries = [
        {"idx": number, "name": str(number), "path": path, "type": PREFIX + kind}
        for number, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries))


def clip_folder(folder: Path, *modules: tuple[str, str]) -> Path:
    """Save a CLIP as sentence-transformers does, with modules after it."""
    save("clip", folder / "0_CLIPModel")
    list_modules(folder, ("CLIPModel", "0_CLIPModel"), *modules)
    return folder


def plain() -> Iterator[Tensor]:
    """Yield what the class itself gives for the image and the caption of ``answers``."""
    yield from answers(tiny.model("clip"))


def linear(weights: dict[str, Tensor], embedding: Tensor) -> Tensor:
    return F.linear(embedding, weights["linear.weight"], weights.get("linear.bias"))


def check(model: Model, *expected: Tensor) -> None:
    for actual, wanted in zip(answers(model), expected, strict=True):
        assert_close(actual, wanted, 1e-5)


@pytest.mark.parametrize("as_bin", [False, True])
def test_dense_is_applied_to_embeddings(as_bin: bool, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"), ("Normalize", "2_Normalize"))
    weights = dense(folder / "1_Dense", 12, 5, as_bin)
    check(nibt.load_model(folder), *(linear(weights, embedding) for embedding in plain()))


def test_dense_modules_follow_in_their_order(tmp_path: Path) -> None:
    """A change to unit length matters before a map with a bias."""
    folder = clip_folder(tmp_path, ("Normalize", "1"), ("Dense", "2_Dense"), ("Dropout", "3"), ("Dense", "4_Dense"))
    first, second = dense(folder / "2_Dense", 12, 7), dense(folder / "4_Dense", 7, 4, bias=False)
    check(nibt.load_model(folder), *(linear(second, linear(first, F.normalize(one, dim=-1))) for one in plain()))


@pytest.mark.parametrize("outside", [12, 6])
def test_residual_connection_is_linear(outside: int, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    weights = dense(folder / "1_Dense", 12, outside, use_residual=True)
    beside = weights.get("residual.weight", torch.eye(12))
    check(nibt.load_model(folder), *(linear(weights, one) + one @ beside.T for one in plain()))


@pytest.mark.parametrize("modality", ["image", "text"])
def test_every_cut_and_gradient_has_it(modality: str, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 12, 5)
    model = nibt.load_model(folder)
    tower = model.tower(modality)  # pyright: ignore
    inputs = make_inputs(tower)
    expected, trace = tower.encode(inputs), tower.trace(inputs)
    cuts = [tower.stem(inputs), *(trace.cut(layer) for layer in range(tower.depth + 1))]
    for embedding in (
        trace.embedding,
        record_attentions(trace).embedding,
        *(cut.rest(cut.hidden[None])[0] for cut in cuts),
    ):
        assert_close(embedding, expected, 1e-5)
    explanation = nibt.explain(model, tiny.image(), tiny.CAPTIONS[0], "nib", steps=64)
    other = nibt.explain(tiny.model("clip"), tiny.image(), tiny.CAPTIONS[0], "nib", steps=64)
    assert isinstance(explanation, nibt.Explanation)
    assert isinstance(other, nibt.Explanation)
    cosine = F.cosine_similarity(*answers(model)).item()
    assert explanation.similarity == pytest.approx(cosine, abs=1e-5)
    assert abs(explanation.similarity - other.similarity) > 1e-3
    assert model.weights_hash != tiny.model("clip").weights_hash, "results of other weights are stored apart"


def test_dense_follows_the_pooling_of_a_language_model(tmp_path: Path) -> None:
    built = tiny_vision_language.built("qwen2_vl")
    built.module.save_pretrained(tmp_path)
    built.processor.save_pretrained(tmp_path)
    list_modules(tmp_path, ("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Normalize", "3"))
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_lasttoken": True}))
    weights = dense(tmp_path / "2_Dense", 32, 6)
    options = {**tiny_vision_language.loading("qwen2_vl"), "pooling": "last"}
    without = nibt.load_model(built.module, processor=built.processor, **options)
    del options["pooling"]
    check(nibt.load_model(tmp_path, **options), *(linear(weights, one) for one in answers(without)))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_keep_what_follows_their_base(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "base", ("Dense", "1_Dense"))
    weights = dense(folder / "1_Dense", 12, 5)
    adapted: Any = tiny.clip(adapted=True).module
    adapted.save_pretrained(tmp_path / "adapters")
    adapted.unload().save_pretrained(folder / "0_CLIPModel")
    edit(tmp_path / "adapters/adapter_config.json", base_model_name_or_path=str(folder))
    without = tiny.model("clip adapted")
    check(nibt.load_model(tmp_path / "adapters"), *(linear(weights, one) for one in answers(without)))


def test_hub_gives_what_the_folder_gives(hub: Hub, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "it", ("Dense", "1_Dense"))
    weights = dense(folder / "1_Dense", 12, 5)
    hub.add("org/dense", folder)
    check(nibt.load_model("org/dense"), *(linear(weights, one) for one in plain()))
    hub.requests.clear()
    check(nibt.load_model("org/dense"), *(linear(weights, one) for one in plain()))
    assert hub.requests == [], "all is in the cache"


def test_hub_is_refused_before_weights_are_downloaded(hub: Hub, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "it", ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 12, 5, activation_function="torch.nn.modules.activation.Tanh")
    hub.add("org/dense", folder)
    with pytest.raises(CannotLoad, match="the activation Tanh, and nibt applies linear modules only"):
        nibt.load_model("org/dense")
    assert "model.safetensors" not in hub.downloads()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.GELU"}, "activation GELU"),
        ({"activation_function": "some.code"}, "activation code"),
        ({"module_input_name": "token_embeddings"}, r"Dense \(1_Dense\) .* for token_embeddings"),
        ({"in_features": None}, "without in_features and out_features"),
        ({"out_features": 6}, "are not those of its config.json"),
        ({"bias": False}, "are not those of its config.json"),
    ],
)
def test_what_is_not_linear_or_broken_is_refused(values: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 12, 5)
    edit(folder / "1_Dense/config.json", **values)
    with pytest.raises(CannotLoad, match=message) as error:
        nibt.load_model(folder)
    assert "\n" not in str(error.value)


def test_activation_that_is_not_named_is_not_linear(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 12, 5)
    (folder / "1_Dense/config.json").write_text(json.dumps({"in_features": 12, "out_features": 5}))
    with pytest.raises(CannotLoad, match="the activation Tanh"):
        nibt.load_model(folder)


def test_map_of_another_width_is_refused_in_words(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 13, 5)
    with pytest.raises(CannotLoad, match="takes embeddings of 13 numbers, and the encoder gives 12"):
        nibt.load_model(folder)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_missing_files_of_a_map_are_named(file: str, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 12, 5)
    (folder / "1_Dense" / file).unlink()
    with pytest.raises(CannotLoad, match=r"1_Dense.*save the model again"):
        nibt.load_model(folder)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True}, {}),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, {}),
        ({"pooling_mode": ["mean", "lasttoken"]}, {}),
        ({"pooling_mode": ["mean"]}, {"pooling": "mean"}),
        ({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": False}, {"pooling": "last"}),
    ],
)
def test_several_poolings_are_not_taken_for_one(config: dict[str, Any], expected: dict, tmp_path: Path) -> None:
    """sentence-transformers concatenates them."""
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(config))
    assert _pooling_file(str(tmp_path)) == expected


def test_reading_draws_no_random_numbers(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path, ("Dense", "1_Dense"))
    dense(folder / "1_Dense", 12, 5)
    model = nibt.load_model(folder)
    assert isinstance(model.image.after, nn.Module)
    state = torch.get_rng_state()
    nibt.load_model(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("sentence_bert_config.json", {"do_lower_case": True}, "changes texts to small letters in sentence-transfo"),
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "Find: "}, "default_prompt_name": "query"},
            "puts 'Find: ' before each text",
        ),
        ("sentence_bert_config.json", {"do_lower_case": False, "max_seq_length": 77}, ""),
        ("config_sentence_transformers.json", {"prompts": {"query": "Find: "}, "default_prompt_name": None}, ""),
    ],
)
def test_settings_that_change_texts_are_refused(file: str, values: Any, message: str, tmp_path: Path) -> None:
    folder = clip_folder(tmp_path)
    (folder / file).write_text(json.dumps(values))
    if message:
        with pytest.raises(CannotLoad, match=message):
            nibt.load_model(folder)
    else:
        check(nibt.load_model(folder), *plain())


# Models of the library itself


def library_folder(kind: str, folder: Path) -> Path:
    """Save a small model as its class does."""
    built = tiny.clip() if kind == "clip" else tiny_vision_language.built(kind)
    built.module.save_pretrained(folder)
    built.processor.save_pretrained(folder)
    return folder


def scores(library: Any) -> float:
    """Return the score that the library gives the image and the caption of ``answers``."""
    image, text = [tiny.image().pil_image], [tiny.CAPTIONS[0]]
    if type(library).__name__ == "MultiVectorEncoder":
        return float(library.similarity(library.encode_query(text), library.encode_document(image)))
    return float(library.similarity(library.encode(text), library.encode(image)))


def explained(model: Any) -> nibt.Explanation:
    explanation = nibt.explain(model, tiny.image(), tiny.CAPTIONS[0])
    assert isinstance(explanation, nibt.Explanation)
    return explanation


@pytest.mark.parametrize("further", few(CLIP_MODULES, ["encoder", "residual"]))
def test_library_is_taken_as_it_is(further: str, tmp_path: Path) -> None:
    """Its score is explained, before and after it is saved, and nothing of it is changed."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    encoder = library.SentenceTransformer(str(library_folder("clip", tmp_path / "clip")), device="cpu")[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = library.SentenceTransformer(modules=[encoder, *CLIP_MODULES[further](modules, 12)], device="cpu")
    names, expected = [name for name, _ in model.named_modules()], scores(model)
    explanation = explained(model)
    assert explanation.similarity == pytest.approx(expected, abs=1e-5)
    assert [name for name, _ in model.named_modules()] == names
    model.save(str(tmp_path / "saved"))
    assert explained(tmp_path / "saved").similarity == pytest.approx(expected, abs=1e-5)


def test_first_numbers_of_embeddings_are_explained(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = str(library_folder("clip", tmp_path / "clip"))
    model = library.SentenceTransformer(folder, device="cpu", truncate_dim=5)
    assert explained(model).similarity == pytest.approx(scores(model), abs=1e-5)
    model.save(str(tmp_path / "saved"))
    assert explained(tmp_path / "saved").similarity == pytest.approx(scores(model), abs=1e-5)


def test_other_similarities_than_the_cosine_are_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = str(library_folder("clip", tmp_path / "clip"))
    model = library.SentenceTransformer(folder, device="cpu", similarity_fn_name="dot")
    model.save(str(tmp_path / "saved"))
    for source in (model, tmp_path / "saved"):
        with pytest.raises(CannotLoad, match="compares embeddings by 'dot' in sentence-transformers"):
            nibt.load_model(source)


@pytest.mark.parametrize("pooling", few(["lasttoken", "mean"], ["lasttoken"]))
@pytest.mark.parametrize("generation_prompt", few([None, True], [True]))
@pytest.mark.parametrize("instruction", few(["", "Find the image."], ["Find the image."]))
def test_chat_of_the_library_is_that_of_an_embedder(
    pooling: str, generation_prompt: bool | None, instruction: str, tmp_path: Path
) -> None:
    """Its template has no generation prompt unless its configuration says so, in memory and in a folder."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    options = {} if generation_prompt is None else {"chat_template": {"add_generation_prompt": generation_prompt}}
    folder = str(library_folder("qwen2_vl", tmp_path / "model"))
    encoder = modules.Transformer(folder, processing_kwargs=options)
    prompts = {"prompts": {"search": instruction}, "default_prompt_name": "search"} if instruction else {}
    model = library.SentenceTransformer(modules=[encoder, modules.Pooling(32, pooling)], device="cpu", **prompts)
    assert explained(model).similarity == pytest.approx(scores(model), abs=1e-5)
    model.save(str(tmp_path / "saved"))
    assert explained(tmp_path / "saved").similarity == pytest.approx(scores(model), abs=1e-5)


@pytest.mark.parametrize("kind", few(["colpali", "colqwen2"], ["colqwen2"]))
def test_late_interaction_of_the_library_is_explained(kind: str, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.MultiVectorEncoder(str(library_folder(kind, tmp_path / "model")), device="cpu")
    assert explained(model).similarity == pytest.approx(scores(model), rel=1e-5)
    model.save(str(tmp_path / "saved"))
    assert explained(tmp_path / "saved").similarity == pytest.approx(scores(model), rel=1e-5)


def test_other_scores_than_those_of_the_library_are_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    folder = str(library_folder("qwen2_vl", tmp_path / "model"))
    model = library.SentenceTransformer(modules=[modules.Transformer(folder), modules.Pooling(32, "mean")])
    with pytest.raises(CannotLoad, match="would explain another score: pass the prompts"):
        nibt.load_model(model, text_prompt="Another one: {text}")
    tanh = [library.SentenceTransformer(str(library_folder("clip", tmp_path / "clip")))[0], modules.Dense(12, 5)]
    with pytest.raises(CannotLoad, match="the activation Tanh, and nibt applies linear modules only"):
        nibt.load_model(library.SentenceTransformer(modules=tanh))


def test_reranker_is_a_generator_whose_score_is_a_difference_of_logits(tmp_path: Path) -> None:
    """As the reference of models says; the library gives the sigmoid."""
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.base.modules")
    scoring = pytest.importorskip("sentence_transformers.cross_encoder.modules")
    folder = str(library_folder("qwen2_vl", tmp_path / "model"))
    encoder, image = modules.Transformer(folder, transformer_task="any-to-any"), tiny.image().pil_image
    ids = encoder.tokenizer.convert_tokens_to_ids(["cat", "dog"])
    reranker = library.CrossEncoder(modules=[encoder, scoring.LogitScore(*ids)], device="cpu")
    with pytest.raises(CannotLoad, match=r"is a reranker, .* explain its encoder with explain_answer"):
        nibt.load_model(reranker)
    messages = encoder.input_formatter.pair_to_messages(("two red cars", image))
    prompt = encoder.processor.apply_chat_template(messages, tokenize=False)
    explanation = nibt.explain_answer(
        encoder.model, image, prompt, "cat", against="dog", processor=encoder.processor, other_images=[], layer=1
    )
    (score,) = reranker.predict([("two red cars", image)], activation_fn=nn.Identity())
    assert explanation.words[0].value == pytest.approx(float(score), abs=1e-4)
