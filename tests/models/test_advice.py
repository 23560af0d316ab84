"""Advice to use an embedded model stands only where no hub could be asked."""

import json
from pathlib import Path

import pytest

import nibt
from nibt.errors import CannotLoad
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
