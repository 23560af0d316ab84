"""Dual encoders with the text encoder of another folder: the score is that of sentence-transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import nibt
from nibt.data.images import read_image
from nibt.errors import BadOption, CannotLoad, NibtError
from nibt.models.base import Model
from tests.helpers import assert_close, make_inputs
from tests.hub import Hub

CAPTIONS = ["a photo of a cat", "ein hund und eine katze", "two red cars , a cat and a dog and a cat and two red cars"]
WORDS = "a photo of cat dog two red cars ein hund und eine katze . ,".split()
WIDTH = 128  # of the embeddings of scenes


def encoder(kind: str, vocabulary: int) -> nn.Module:
    import transformers

    torch.manual_seed(0)
    if kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=vocabulary, dim=16, n_layers=3, n_heads=2, hidden_dim=32, max_position_embeddings=64
        )
        return transformers.DistilBertModel(config)

    sizes: dict[str, Any] = {"vocab_size": vocabulary, "hidden_size": 16, "num_hidden_layers": 3}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 66, "pad_token_id": 0}
    classes = {"bert": transformers.BertModel, "xlm-roberta": transformers.XLMRobertaModel}
    return classes[kind](classes[kind].config_class(**sizes))


def saved(folder: Path, kind: str = "distilbert", pooling: str = "mean", outside: int = WIDTH) -> Any:
    """Save a text encoder by sentence-transformers, and return it."""
    sentences = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer import modules
    from transformers import BertTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{one}" for one in letters)]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)))
    inner = folder / "inner"
    encoder(kind, len(vocabulary)).save_pretrained(inner)
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(inner)
    parts = [
        modules.Transformer(str(inner), max_seq_length=20),
        modules.Pooling(16, pooling),
        modules.Dense(16, outside, bias=False, activation_function=nn.Identity()),
    ]
    library = sentences.SentenceTransformer(modules=parts, device="cpu")
    library.save(str(folder / "text"))
    return library


def as_released(folder: Path) -> None:
    """Write the configurations as folders of older versions have them, such as that of the released model."""
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12, "do_lower_case": False}))
    flags = {f"pooling_mode_{name}": name == "mean_tokens" for name in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 16, **flags}))
    kinds = ("Transformer", "Pooling", "Dense")
    entries = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (kind, path) in enumerate(zip(kinds, ("", "1_Pooling", "2_Dense"), strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(entries))


def scores(model: Model, captions: list[str]) -> list[float]:
    return [nibt.explain(model, "sample:scene", caption, "ones").similarity for caption in captions]


def expected(library: Any, captions: list[str]) -> list[float]:
    """The cosines of the image, as the dual encoder embeds it, and the texts, as the library embeds them."""
    images = nibt.load_model("scenes").image
    image = images.encode(images.prepare([read_image("sample:scene")]))
    return F.cosine_similarity(image, library.encode(captions, convert_to_tensor=True)).tolist()


@pytest.mark.parametrize("kind", ["distilbert", "bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_score_is_that_of_the_library(tmp_path: Path, kind: str, pooling: str) -> None:
    library = saved(tmp_path, kind, pooling)
    model = nibt.load_model("scenes", text_model=tmp_path / "text")
    assert scores(model, CAPTIONS) == pytest.approx(expected(library, CAPTIONS), abs=1e-6)
    explanation = nibt.explain(model, "sample:scene", CAPTIONS[2], "ones")
    assert any("uses 20: the rest was cut off" in note for note in explanation.warnings)


def test_a_folder_as_released_is_read_with_its_length(tmp_path: Path) -> None:
    sentences = pytest.importorskip("sentence_transformers")
    saved(tmp_path)
    as_released(tmp_path / "text")
    library = sentences.SentenceTransformer(str(tmp_path / "text"), device="cpu")
    assert library.max_seq_length == 12
    model = nibt.load_model("scenes", text_model=tmp_path / "text")
    assert scores(model, CAPTIONS) == pytest.approx(expected(library, CAPTIONS), abs=1e-6)


def test_each_cut_gives_the_embedding_and_the_scores_add_up(tmp_path: Path) -> None:
    saved(tmp_path)
    model = nibt.load_model("scenes", text_model=tmp_path / "text")
    for tower in model.towers:
        inputs = make_inputs(tower)
        whole, trace = tower.encode(inputs), tower.trace(inputs)
        cuts = [tower.stem(inputs), *(trace.cut(layer) for layer in range(tower.depth + 1))]
        for cut in cuts:
            assert_close(cut.rest(cut.hidden[None])[0], whole, 1e-5)

    explanation = nibt.explain(model, "sample:scene", CAPTIONS[0], steps=64)
    for side in (explanation.image, explanation.text):
        assert side.path is not None
        assert abs(float(side.path.gap)) < 2e-3


def test_captions_of_a_batch_do_not_depend_on_each_other(tmp_path: Path) -> None:
    saved(tmp_path)
    tower = nibt.load_model("scenes", text_model=tmp_path / "text").text
    together = tower.encode(tower.prepare(CAPTIONS))
    alone = torch.cat([tower.encode(tower.prepare([caption])) for caption in CAPTIONS])
    assert_close(together, alone, 1e-5)


def test_results_record_the_text_model_and_its_weights(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two", "bert")
    models = [nibt.load_model("scenes", text_model=tmp_path / name / "text") for name in ("one", "two")]
    records = [nibt.explain(model, "sample:scene", "a cat", "ones").model for model in models]
    plain = nibt.explain("scenes", "sample:scene", "a cat", "ones").model
    assert [record.get("text_model") for record in records] == [
        str(tmp_path / name / "text") for name in ("one", "two")
    ]
    assert "text_model" not in plain
    assert len({record["weights_hash"] for record in (*records, plain)}) == 3
    assert len({record["configuration_hash"] for record in (*records, plain)}) == 3


def test_the_model_of_the_images_is_not_changed(tmp_path: Path) -> None:
    saved(tmp_path)
    images = nibt.load_model("scenes")
    before = scores(images, CAPTIONS[:1]), images.weights_hash
    nibt.explain(nibt.load_model(images, text_model=tmp_path / "text"), "sample:scene", "a cat")
    assert (scores(images, CAPTIONS[:1]), images.weights_hash) == before


def test_the_hub_gives_what_the_folder_gives(hub: Hub, tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / "text" / "pytorch_model.bin").write_bytes(b"not needed")
    hub.add("org/multilingual", tmp_path / "text")
    model = nibt.load_model("scenes", text_model="org/multilingual")
    assert scores(model, CAPTIONS) == scores(nibt.load_model("scenes", text_model=tmp_path / "text"), CAPTIONS)
    assert "pytorch_model.bin" not in hub.downloads()
    with pytest.raises(CannotLoad, match="'org/missing'"):
        nibt.load_model("scenes", text_model="org/missing")


def test_loading_draws_no_random_numbers_of_the_caller(tmp_path: Path) -> None:
    """A folder without the pooler of BERT, which nothing reads: Transformers draws it."""
    from safetensors.torch import load_file, save_file

    saved(tmp_path, "bert")
    weights = load_file(tmp_path / "text" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    assert len(kept) < len(weights)
    save_file(kept, tmp_path / "text" / "model.safetensors", {"format": "pt"})
    before = torch.get_rng_state()
    model = nibt.load_model("scenes", text_model=tmp_path / "text")
    assert torch.equal(torch.get_rng_state(), before)
    assert nibt.load_model("scenes", text_model=tmp_path / "text").weights_hash == model.weights_hash


def edit(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def spoil(folder: Path, how: str) -> None:
    if how == "no list":
        (folder / "modules.json").unlink()
    elif how == "empty list":
        (folder / "modules.json").write_text("[]")
    elif how == "maximum":
        edit(folder, "1_Pooling/config.json", pooling_mode="max")
    elif how == "activation":
        edit(folder, "2_Dense/config.json", activation_function="torch.nn.modules.activation.Tanh")
    elif how == "no weights":
        (folder / "model.safetensors").unlink()
    elif how == "no vocabulary":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no list", r"has no modules\.json of sentence-transformers"),
        ("empty list", "does not list the modules"),
        ("maximum", "pools the states of its tokens by max"),
        ("activation", "with the activation Tanh"),
        ("no weights", "its weights cannot be read"),
        ("no vocabulary", "has no tokenizer"),
        ("broken", r"config\.json"),
    ],
)
def test_a_folder_that_cannot_be_read_right_is_refused(tmp_path: Path, how: str, message: str) -> None:
    saved(tmp_path)
    spoil(tmp_path / "text", how)
    with pytest.raises(CannotLoad, match=message):
        nibt.load_model("scenes", text_model=tmp_path / "text")


def test_embeddings_of_another_length_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, outside=64)
    with pytest.raises(CannotLoad, match="embeds images in 128 dimensions and captions in 64"):
        nibt.load_model("scenes", text_model=tmp_path / "text")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ["", " ", "scenes", "no/such/folder/here", 3])
def test_what_names_no_text_model_is_refused(name: Any) -> None:
    with pytest.raises(NibtError, match="text_model must be the folder or the name"):
        nibt.load_model("scenes", text_model=name)


def test_models_without_a_text_tower_take_none(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="text_model cannot be set for a model of two functions"):
        nibt.load_model(images=lambda images: [], texts=lambda texts: [], text_model=tmp_path)
