"""Advice to use an embedded model stands only where no hub could be asked."""

import json
from pathlib import Path

import pytest

import nibt
from nibt.app.cache import ModelCache
from nibt.errors import CannotLoad
from nibt.generators.loading import load_generator
from tests import tiny

ADVICE = "Without a hub"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a folder with a saved model, as its class writes it."""
    plain = tiny.KINDS["clip"]()
    plain.module.save_pretrained(tmp_path / "model")
    plain.processor.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def message(name: Path | str) -> str:
    with pytest.raises(CannotLoad) as caught:
        nibt.load_model(name)
    return str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_broken_folders_advise_no_other_model(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    assert ADVICE not in message(saved)
    (saved / "preprocessor_config.json").unlink(missing_ok=True)
    assert ADVICE not in message(saved)
    (saved / "config.json").write_text(json.dumps({"model_type": "no such model"}))
    assert ADVICE not in message(saved)
    assert ADVICE not in message(f"{saved}s")


def test_a_hub_that_cannot_be_reached_advises_models_that_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert ADVICE in message("org/no-such-model")


@pytest.mark.parametrize("key", ["num_hidden_layers", "hidden_size", "vocab_size"])
@pytest.mark.usefixtures("unchecked")
def test_absurd_sizes_are_an_error_before_memory_is_spent(saved: Path, key: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["text_config"][key] = 10_000_000 if key == "num_hidden_layers" else 10**15
    (saved / "config.json").write_text(json.dumps(config))
    # load_generator refuses this model before it reads sizes
    for load in (nibt.load_model, load_generator)[: 2 if key == "num_hidden_layers" else 1]:
        message = rf"config\.json.*\b{key}\b|\b{key}\b.*config\.json"
        with pytest.raises(CannotLoad, match=message) as caught:
            load(str(saved))
        assert ADVICE not in str(caught.value)


@pytest.mark.usefixtures("unchecked")
def test_embedded_model_with_a_suffix_says_what_to_write() -> None:
    assert "write lite. For images of another size: image_size=256" in message("lite:256")
    with pytest.raises(CannotLoad, match="takes nothing after a colon: write lite"):
        load_generator("lite:256")
    with pytest.raises(CannotLoad, match="takes nothing after a colon: write lite"):
        ModelCache.of_names(1, ["lite:256"])
