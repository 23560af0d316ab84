"""Tests of ``nibt.models._hub``: models by the names that people paste, from a hub on this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest

from nibt.errors import CannotLoad
from nibt.models._hub import Wants, model_folder
from nibt.models._loading import load_model
from nibt.models._names import HubName
from nibt.models._request import LoadRequest
from nibt.progress import Progress, listening
from tests import hub as hubs
from tests import tiny
from tests.hub import COMMITS, Hub, point_to
from tests.models.saved import agree, edit, save, save_open_clip
from tests.suites import few

pytestmark = pytest.mark.slow

peft_warns = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("clip", tmp_path_factory.mktemp("saved"))


@pytest.fixture
def clip(hub: Hub, saved: Path, tmp_path: Path) -> Path:
    """The folder of a repository ``org/clip``, which a test may change."""
    return hub.add("org/clip", Path(shutil.copytree(saved, tmp_path / "clip")))


PASTED = [
    ("hf-hub:org/clip", "org/clip"),
    ("hf://org/clip", "org/clip"),
    (" org/clip ", "org/clip"),
    ("{hub}/org/clip", "org/clip"),
    ("{hub}/org/clip/blob/main/model.safetensors", "org/clip"),
    ("org/clip@v1", "org/clip@v1"),
    (COMMITS["v1"], f"org/clip@{COMMITS['v1']}"),
    ("{hub}/org/clip/tree/v1", "org/clip@v1"),
    ("org/clip@refs/pr/2", "org/clip@refs/pr/2"),
    ("{hub}/org/clip/tree/refs%2Fpr%2F2", "org/clip@refs/pr/2"),
    ("org/clip:models/small", "org/clip:models/small"),
    ("{hub}/org/clip/tree/main/models/small", "org/clip:models/small"),
    ("{hub}/org/clip/blob/v1/models/small/config.json", "org/clip@v1:models/small"),
]


class TestNames:
    def test_repository_loads_and_its_commit_is_recorded(self, hub: Hub, clip: Path) -> None:
        model = load_model("org/clip")
        agree(model, tiny.model("clip"))
        assert (model.id, model.family, model.folder) == ("org/clip", "clip", None)
        assert model.record().get("revision") == COMMITS["main"]

    @pytest.mark.parametrize(("text", "name"), few(PASTED, PASTED[3:7]))
    def test_names_that_people_paste(self, text: str, name: str, hub: Hub, saved: Path, tmp_path: Path) -> None:
        text = f"org/clip@{text}" if text == COMMITS["v1"] else text.format(hub=hub.address)
        top = hub.add("org/clip", tmp_path / "top")
        for folder in (top, top / "models/small"):
            shutil.copytree(saved, folder)
        for revision in ("v1", "refs/pr/2"):
            hub.add("org/clip", top, revision)
        model = load_model(text)
        agree(model, tiny.model("clip"))
        revision = name.partition("@")[2].partition(":")[0] or "main"
        assert model.id == name
        assert model.record().get("revision") == COMMITS.get(revision, revision)
        prefix = "models/small/" if ":" in name else ""
        assert all(f"/{prefix}{file.rpartition('/')[2]}" in file for file in hub.requests if "GET /org" in file)

    def test_adapters_load_on_their_base(self, hub: Hub, tmp_path: Path) -> None:
        base, adapters = save("clip", tmp_path / "base"), tmp_path / "adapters"
        adapted = tiny.KINDS["clip adapted"]().module
        adapted.save_pretrained(adapters)
        adapted.unload().save_pretrained(base)
        edit(adapters / "adapter_config.json", base_model_name_or_path="org/base", revision="v1")
        hub.add("org/base", base, "v1")
        hub.add("org/adapters", adapters)
        agree(load_model("org/adapters"), tiny.model("clip adapted"))

    test_adapters_load_on_their_base = peft_warns(test_adapters_load_on_their_base)

    def test_open_clip_repository_loads(self, hub: Hub, tmp_path: Path) -> None:
        save_open_clip(tmp_path / "it")
        hub.add("org/open", tmp_path / "it")
        model = load_model("hf-hub:org/open")
        assert (model.family, model.id) == ("open_clip", "org/open")
        agree(model, load_model(tmp_path / "it"))

    def test_transformers_has_priority_over_open_clip(self, hub: Hub, clip: Path, tmp_path: Path) -> None:
        """Repositories of LAION have the files of both."""
        save_open_clip(tmp_path / "it")
        for file in (tmp_path / "it").iterdir():
            shutil.copy(file, clip)
        assert load_model("org/clip").family == "clip"
        assert "open_clip_model.safetensors" not in hub.downloads()
        assert load_model(clip).family == "open_clip", "of a local folder, as before"

    def test_prefix_of_open_clip_is_obeyed(self, hub: Hub, clip: Path, tmp_path: Path) -> None:
        save_open_clip(tmp_path / "it")
        for file in (tmp_path / "it").iterdir():
            shutil.copy(file, clip)
        model = load_model("open_clip:hf-hub:org/clip")
        assert (model.family, model.id) == ("open_clip", "open_clip:hf-hub:org/clip")

    def test_modules_of_sentence_transformers_are_downloaded(self, hub: Hub, saved: Path, tmp_path: Path) -> None:
        shutil.copytree(saved, tmp_path / "top/0_CLIPModel")
        modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
        (tmp_path / "top/modules.json").write_text(json.dumps(modules))
        hub.add("org/clip", tmp_path / "top")
        folder, _ = model_folder(HubName("org/clip"), LoadRequest(), Wants(lambda config: None))
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
        assert files >= {"modules.json", "0_CLIPModel/config.json", "0_CLIPModel/model.safetensors"}

    def test_processor_of_another_repository_is_used_without_its_weights(
        self, hub: Hub, clip: Path, tmp_path: Path
    ) -> None:
        tiny.KINDS["clip"]().module.save_pretrained(tmp_path / "weights")
        agree(load_model(tmp_path / "weights", processor="org/clip"), tiny.model("clip"))
        assert not any(file.endswith(".safetensors") for file in hub.downloads())

    def test_sharded_weights_load(self, hub: Hub, tmp_path: Path) -> None:
        built = tiny.KINDS["clip"]()
        built.module.save_pretrained(tmp_path / "it", max_shard_size="20KB")
        built.processor.save_pretrained(tmp_path / "it")
        hub.add("org/clip", tmp_path / "it")
        assert len(list((tmp_path / "it").glob("*.safetensors"))) > 2
        agree(load_model("org/clip"), tiny.model("clip"))

    def test_only_what_is_needed_is_downloaded(self, hub: Hub, clip: Path) -> None:
        for name in ("pytorch_model.bin", "flax_model.msgpack", "evil.py", "README.md", "onnx/model.json"):
            (clip / name).parent.mkdir(exist_ok=True)
            (clip / name).write_text("{}")
        load_model("org/clip")
        assert set(hub.downloads()) == {path.name for path in clip.iterdir() if path.suffix == ".json"} | {
            "model.safetensors"
        }

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("ViT-B/32", "write open_clip:ViT-B-32/openai for OpenAI's, or open_clip:ViT-B-32/TAG"),
            ("ViT-L/14@336px", "open_clip:ViT-L-14-336/openai"),
            ("RN50", r"open_clip:RN50/TAG \(tags: openai, yfcc15m"),
            ("ViT-B-32", "an architecture, of which there are several weights"),
            ("ViT-B-32/laion", r"no weights 'laion': write open_clip:ViT-B-32/TAG"),
            ("org/clip/models/small", "For the folder of a repository, write 'org/clip:models/small'"),
            ("hf-hub:clip", "write org/name, org/name@revision or org/name:folder"),
            ("https://example.org/org/clip", "is not a page of the hub"),
            ("{hub}/datasets/org/clip", "is not the page of a model"),
            ("org/clip@../../x", "there is no model"),
            ("org/clip:nowhere", "has no folder 'nowhere'"),
            ("org/other", "org/other is not on the hub, or is private"),
            ("org/clip@v9", r"org/clip has no such revision \(Invalid rev id: v9\): check the name after the @"),
        ],
    )
    def test_names_without_a_model_say_what_to_write(self, name: str, message: str, hub: Hub, clip: Path) -> None:
        with pytest.raises(CannotLoad, match=message):
            load_model(name.format(hub=hub.address))


class TestOpenClipTags:
    NAME = "ViT-B-32/laion2b_s34b_b79k"

    @pytest.fixture
    def repository(self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """The repository of the tag, with a tiny architecture of the same name."""
        config = tiny.configuration()
        monkeypatch.setattr(
            open_clip.factory, "_MODEL_CONFIGS", {**open_clip.factory._MODEL_CONFIGS, "ViT-B-32": config}
        )
        save_open_clip(tmp_path / "it")
        name = open_clip.get_pretrained_cfg("ViT-B-32", "laion2b_s34b_b79k")["hf_hub"].strip("/")
        hub.add(name, tmp_path / "it")
        return name

    @pytest.mark.parametrize("prefix", ["", "open_clip:"])
    def test_tag_loads(self, prefix: str, hub: Hub, repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model = load_model(prefix + self.NAME)
        assert model.id == f"open_clip:{self.NAME}"
        assert model.record().get("revision") == COMMITS["main"]
        assert model.record().get("quick_gelu") is False
        assert hub.downloads() == ["open_clip_model.safetensors"]
        config = model.module.visual.preprocess_cfg
        point_to(hubs.CLOSED, Path(os.devnull), monkeypatch)
        assert tuple(config["mean"]) == open_clip.OPENAI_DATASET_MEAN

    def test_tag_is_loaded_from_the_cache(self, hub: Hub, repository: str) -> None:
        load_model(self.NAME)
        hub.requests.clear()
        load_model(self.NAME)
        assert hub.requests == []


LOAD = """
import sys, time
import nibt.models.clip, transformers.models.clip, peft, open_clip
from nibt.cli.main import _quiet_libraries
from nibt.models._loading import load_model
waits = []
time.sleep = waits.append
for name in sys.argv[1:]:
    load_model(name)
print(waits)
"""


class TestCache:
    def test_second_load_asks_nothing(self, hub: Hub, clip: Path) -> None:
        load_model("org/clip")
        hub.requests.clear()
        load_model("hf-hub:org/clip")
        assert hub.requests == []

    def test_cached_branch_stays_until_it_is_updated(
        self, hub: Hub, clip: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert load_model("org/clip").record().get("revision") == COMMITS["main"]
        monkeypatch.setitem(COMMITS, "main", "d" * 40)
        assert load_model("org/clip").record().get("revision") == "a" * 40
        huggingface_hub.snapshot_download("org/clip")  # as "hf download" does
        assert load_model("org/clip").record().get("revision") == "d" * 40

    def test_deleted_file_is_downloaded_again(self, hub: Hub, clip: Path, tmp_path: Path) -> None:
        load_model("org/clip")
        (weights,) = (tmp_path / "cache").rglob("model.safetensors")
        weights.resolve().unlink()
        hub.requests.clear()
        load_model("org/clip")
        assert hub.downloads() == ["model.safetensors"]

    @pytest.mark.slow
    def test_cached_models_do_not_wait_for_a_hub_that_is_down(self, hub: Hub, clip: Path, tmp_path: Path) -> None:
        """In another process, as a user has it: no wait between retries, and no lines about them."""
        built, folder = tiny.KINDS["bert"](), tmp_path / "bert"
        save_open_clip_with_encoder(built, folder)
        hub.add("org/bert", folder)
        hub.add("org/encoder", Path(built.tokenizer.tokenizer.name_or_path))
        for name in ("org/clip", "org/bert"):
            load_model(name)
        process = subprocess.run(
            [sys.executable, "-c", LOAD, "org/clip", "org/bert"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_ENDPOINT": hubs.CLOSED, "HF_HUB_CACHE": str(tmp_path / "cache")},
        )
        assert process.stdout == "[]\n", process.stderr
        assert "etry" not in process.stderr
        assert "127.0.0.1" not in process.stderr

    def test_partly_cached_model_needs_the_hub(self, hub: Hub, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        load_model("org/clip")
        (weights,) = Path(os.path.dirname(clip), "cache").rglob("model.safetensors")
        weights.unlink()
        point_to(hubs.CLOSED, Path(clip).parent / "cache", monkeypatch)
        with pytest.raises(CannotLoad, match=r"the cache does not have all of it, and the hub .* cannot be reached"):
            load_model("org/clip")


def save_open_clip_with_encoder(built: tiny.BuiltModel, folder: Path) -> None:
    """Save an OpenCLIP model whose tokenizer and text encoder are in another repository."""
    from safetensors.torch import save_file

    folder.mkdir()
    text = {
        "hf_model_name": "org/encoder",
        "hf_tokenizer_name": "org/encoder",
        "context_length": tiny.CONTEXT,
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "hf_proj_type": "mlp",
    }
    config = {"embed_dim": 16, "vision_cfg": tiny._OWN_VIT, "text_cfg": text}
    save_file(built.module.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))


class TestRefusals:
    @pytest.mark.usefixtures("no_waiting")
    @pytest.mark.parametrize(
        ("refusal", "message"),
        [
            (
                hubs.MISSING,
                r"org/clip is not on the hub, or is private (Repository not found): check the name; if it is ",
            ),
            (
                hubs.ANONYMOUS,
                "org/clip is not on the hub, or is private (Invalid username or password): check the name",
            ),
            (hubs.BAD_TOKEN, "the hub rejects your token (Invalid credentials in Authorization header): log in"),
            (
                hubs.GATED,
                "org/clip is gated (Access to model org/clip is restricted. You must have access to it and be",
            ),
            (hubs.GATED, "Please log in): log in with 'hf auth login', and accept its terms at {hub}/org/clip"),
            (hubs.NOT_AUTHORIZED, "you are not in the authorized list. Visit the page to ask for access): log in with"),
            (hubs.GATED_WEIGHTS, "org/clip is gated (Access to model org/clip is restricted"),
            (hubs.DISABLED, "org/clip is disabled on the hub (Access to this resource is disabled): use another model"),
            (
                hubs.LIMITED,
                "the hub limits your requests (We had to rate limit your IP): wait 55 seconds and try again",
            ),
            (replace(hubs.LIMITED, paths=r".*\.safetensors"), "wait 55 seconds and try again"),
            (hubs.BUSY, "the hub answers with status 503 (Service unavailable): try again later"),
        ],
    )
    def test_sentence_of_the_hub_is_kept(self, refusal: Any, message: str, hub: Hub, clip: Path) -> None:
        hub.refusals.append(refusal)
        with pytest.raises(CannotLoad, match=re.escape(message.format(hub=hub.address))) as caught:
            load_model("org/clip")
        assert "Request ID" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert hub.downloads() in ([], ["config.json"]), "nothing is downloaded for nothing"

    @pytest.mark.usefixtures("no_waiting")
    def test_unreachable_hub_is_reported_at_once(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        point_to(hubs.CLOSED, tmp_path, monkeypatch)
        for name in ("org/clip", "open_clip:ViT-B-32/laion2b_s34b_b79k"):
            with pytest.raises(CannotLoad, match=rf"'{name}'.*{hubs.CLOSED} cannot be reached.*embedded model"):
                load_model(name)

    def test_offline_mode_is_named(self, hub: Hub, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(CannotLoad, match="HF_HUB_OFFLINE is set, and the cache does not have all"):
            load_model("org/clip")

    def test_download_goes_on_after_a_break(self, hub: Hub, clip: Path) -> None:
        """The body of the first answer is shorter than the file, and so is that of the second."""
        hub.cut = [1000]
        with pytest.raises(CannotLoad, match=r"the download broke off \(file should be of size \d+ but has size 1000"):
            load_model("org/clip")
        agree(load_model("org/clip"), tiny.model("clip"))

    def test_model_without_a_family_is_reported_before_the_download(self, hub: Hub, clip: Path) -> None:
        for kind in ("bert", None):
            edit(clip / "config.json", model_type=kind)
            with pytest.raises(CannotLoad, match=rf"'org/clip' has the model_type {kind!r}, which is not supported"):
                load_model("org/clip")
            assert hub.downloads() == ["config.json"]
            hub.requests.clear()
            shutil.rmtree(clip.parent / "cache")

    def test_repository_without_a_model_is_reported(self, hub: Hub, tmp_path: Path) -> None:
        (tmp_path / "it").mkdir()
        hub.add("org/it", tmp_path / "it")
        with pytest.raises(CannotLoad, match=r"is not a model: it has none of config\.json"):
            load_model("org/it")
        (tmp_path / "it/config.json").write_text('{"model_type": "clip"}')
        (tmp_path / "it/preprocessor_config.json").write_text("{}")
        (tmp_path / "it/vocab.txt").write_text("a")
        with pytest.raises(CannotLoad, match=r"has no weights: it has none of model\.safetensors"):
            load_model("org/it")

    @pytest.mark.parametrize(
        ("gone", "message"),
        [
            (
                ("processor_config.json", "preprocessor_config.json"),
                r"no image processor \(preprocessor_config\.json\)",
            ),
            (("tokenizer.json",), r"no tokenizer \(tokenizer\.json\): name the model .*--load processor=org/name"),
        ],
    )
    def test_missing_processor_is_noticed_before_the_download(
        self, gone: tuple[str, ...], message: str, hub: Hub, clip: Path
    ) -> None:
        for name in gone:
            (clip / name).unlink(missing_ok=True)
        with pytest.raises(CannotLoad, match=message):
            load_model("org/clip")
        assert hub.downloads() == ["config.json"]
        agree(load_model("org/clip", processor=tiny.KINDS["clip"]().processor), tiny.model("clip"))


class TestBrokenFiles:
    @pytest.mark.parametrize(
        ("name", "damage"),
        [
            ("model.safetensors", lambda data: data[:5000]),
            ("model.safetensors", lambda data: b"\0" * len(data)),
            ("model.safetensors", lambda data: data[:-8] + b"\xff" * 8),
            ("config.json", lambda data: data[:20]),
            ("tokenizer.json", lambda data: data[:200]),
        ],
    )
    def test_file_in_the_cache_is_named(self, name: str, damage: Any, hub: Hub, clip: Path, tmp_path: Path) -> None:
        load_model("org/clip")
        (file,) = (tmp_path / "cache").rglob(name)
        blob = file.resolve()
        blob.write_bytes(damage(blob.read_bytes()))
        with pytest.raises(
            CannotLoad, match=rf"the file {name} in the cache, which is {blob}, is broken .*: delete it"
        ):
            load_model("org/clip")
        blob.unlink()
        agree(load_model("org/clip"), tiny.model("clip"))

    def test_file_of_a_folder_is_named(self, clip: Path) -> None:
        file = clip / "model.safetensors"
        file.write_bytes(file.read_bytes()[:5000])
        with pytest.raises(CannotLoad, match=rf"the file {file} is broken \(.*\): save the model again"):
            load_model(clip)


class TestProgress:
    def test_download_is_reported_in_bytes(self, hub: Hub, clip: Path) -> None:
        reports: list[Progress] = []
        with listening(reports.append):
            load_model("org/clip")
        assert not reports[-1].stage.startswith("downloading"), "phases follow, which have no bytes"
        reports = [report for report in reports if report.stage.startswith("downloading")]
        sizes = [report.done for report in reports]
        assert sizes == sorted(sizes)
        assert reports[-1].done == reports[-1].total
        assert re.fullmatch(r"downloading model\.safetensors, 1\d\dkB of 1\d\dkB", reports[-1].stage), reports[-1]
