"""A folder or a file that holds the results of one request rejects every other request."""

import inspect
import json
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nibt
from nibt.engine.spec import Request, resolve
from nibt.errors import BadInput, OtherRequest
from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.run import Benchmark
from nibt.evaluation.roar.settings import Settings
from nibt.models.base import Model
from nibt.registry import MethodSpec, available, find
from nibt.results.audit import Audit, audit_request
from tests import tiny
from tests.helpers import Run, assert_close, file_digests
from tests.suites import few

CAPTIONS = ["a cat", "two red cars", "a dog on a mat"]


def fill(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> Path:
    """Write a data set of three pairs, which is also a source of jobs."""
    folder.mkdir(exist_ok=True)
    for seed in seeds:
        tiny.image(48, 40, seed).pil_image.save(folder / f"{seed}.png")
    rows = [f"{seed}.png,{caption},k{seed}" for seed, caption in zip(seeds, CAPTIONS, strict=True)]
    (folder / "pairs.csv").write_text("image,caption,key\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def other_model() -> Model:
    """The same network with one weight changed."""
    model = tiny.fresh("clip")
    with torch.no_grad():
        next(model.module.parameters()).add_(1e-3)
    return model


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return fill(tmp_path / "data")


JOB: dict[str, Any] = {"batch_size": 2, "chunk_size": 2, "steps": 2}


JOB_CHANGES: dict[str, dict[str, Any]] = {
    "method": {"method": "occlusion"},
    "target": {"target": "logit"},
    "image": {"image": "photo"},
    "caption": {"caption": "text"},
    "key": {"key": "key"},
    "chunk_size": {"chunk_size": 3},
    "variant": {"variant": "paper"},
    "against": {"target": "difference", "against": "a dog"},
    "against_images": {"target": "difference", "against_images": ["0.png"]},
    "templates": {"target": "ensemble", "templates": ["a photo of {}"]},
    "batch_size": {"batch_size": 3},
    "options": {"image_layer": 1},
}


UNASKED = {"model", "pairs", "out", "split", "loading", "seed"}  # changed below, one by one
OF_PROMPTS = {"prompt", "answer"}  # tests/jobs/test_answers.py changes them
OF_LOGS = {"data_options"}  # tests/datasets/test_lmms_eval.py changes them


EXECUTION = {
    "on",
    "shard",
    "workers",
    "cpus",
    "gpus",
    "address",
    "send_images",
    "on_progress",
}  # has no effect on the bits of a result


@pytest.fixture(scope="module")
def finished(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs and with their finished job."""
    folder = fill(tmp_path_factory.mktemp("finished") / "data")
    rows = (folder / "pairs.csv").read_text().splitlines()
    rows = [f"{row},{','.join(row.split(',')[:2])}" for row in rows]  # the same columns under other names
    (folder / "pairs.csv").write_text("\n".join(rows).replace("key,image,caption", "key,photo,text") + "\n")
    nibt.batch(model, folder / "pairs.csv", folder / "job", **job_options({}, folder))
    return folder


def job_options(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    options = {**JOB, **changes}
    if options.get("method") == "occlusion" or options.get("variant") == "paper":
        options.pop("steps")
    if "against_images" in options:
        options["against_images"] = [str(folder / name) for name in options["against_images"]]
    if "method" in options and "image_layer" in options:
        options.pop("image_layer")
    return options


def test_changes_cover_every_field_of_a_job() -> None:
    names = set(inspect.signature(nibt.batch).parameters)
    assert names == set(JOB_CHANGES) | UNASKED | OF_PROMPTS | OF_LOGS | EXECUTION


@pytest.mark.parametrize("name", sorted(JOB_CHANGES))
@pytest.mark.parametrize("state", ["finished", "unfinished"])
def test_batch_rejects_another_request(model: Model, finished: Path, tmp_path: Path, name: str, state: str) -> None:
    folder = shutil.copytree(finished, tmp_path / "data")
    if state == "unfinished":
        sorted((folder / "job" / "parts").iterdir())[0].unlink()
    before = file_digests(folder / "job" / "parts")
    with pytest.raises(OtherRequest, match=r"(?s)has the results of another request:\n.*\(now .*Choose a new folder"):
        nibt.batch(model, folder / "pairs.csv", folder / "job", **job_options(JOB_CHANGES[name], folder))
    assert file_digests(folder / "job" / "parts") == before


def test_batch_rejects_another_seed_of_a_method_that_draws(model: Model, finished: Path) -> None:
    pairs, job = finished / "pairs.csv", finished / "random"
    nibt.batch(model, pairs, job, method="random", seed=1)
    before = file_digests(job / "parts")
    with pytest.raises(OtherRequest, match="seed"):
        nibt.batch(model, pairs, job, method="random", seed=5)
    assert file_digests(job / "parts") == before


@pytest.mark.slow
@settings(max_examples=40)
@given(names=st.sets(st.sampled_from(sorted(set(JOB_CHANGES) - {"against", "against_images", "templates", "target"}))))
def test_batch_rejects_any_combination_of_changes(model: Model, finished: Path, names: set[str]) -> None:
    changes = {key: value for name in sorted(names) for key, value in JOB_CHANGES[name].items()}
    before = file_digests(finished / "job" / "parts")
    run = lambda: nibt.batch(  # noqa: E731
        model, finished / "pairs.csv", finished / "job", **job_options(changes, finished)
    )
    if names:
        with pytest.raises(OtherRequest):
            run()
    else:
        assert run().manifest.errors == 0
    assert file_digests(finished / "job" / "parts") == before


def test_batch_rejects_another_model(other_model: Model, finished: Path) -> None:
    with pytest.raises(OtherRequest, match=r"model\.weights_hash"):
        nibt.batch(other_model, finished / "pairs.csv", finished / "job", **JOB)


CONFIGURATIONS: dict[str, tuple[str, str, str]] = {
    "the activation": ("config.json", "quick_gelu", "gelu"),
    "the mean color": ("processor_config.json", "0.48145466", "0.5"),
    "the vocabulary": ("tokenizer.json", '"cat":', '"cab":'),
}


@pytest.mark.parametrize("name", few(sorted(CONFIGURATIONS), sorted(CONFIGURATIONS)[:1]))
def test_batch_rejects_another_configuration(clip_folder: Path, data: Path, tmp_path: Path, name: str) -> None:
    """Equal weights give other answers with another activation, other pixels or other tokens."""
    folder = shutil.copytree(clip_folder, tmp_path / "model")
    nibt.batch(folder, data / "pairs.csv", tmp_path / "job", **JOB)
    nibt.batch(folder, data / "pairs.csv", tmp_path / "job", **JOB)
    file, before, after = CONFIGURATIONS[name]
    text = (folder / file).read_text()
    if before not in text:
        pytest.fail(f"{file} has no {before}")
    (folder / file).write_text(text.replace(before, after))
    with pytest.raises(OtherRequest, match=r"model\.configuration_hash"):
        nibt.batch(folder, data / "pairs.csv", tmp_path / "job", **JOB)


@pytest.mark.parametrize("way", ["data", "numpy"])
def test_changes_behind_torch_are_noticed(data: Path, tmp_path: Path, way: str) -> None:
    """Changes through ``.data`` and NumPy do not increase the version of a tensor."""
    model, images = tiny.fresh("clip"), [tiny.image(48, 40)]
    before = nibt.explain(model, images[0], "a red cat"), model.weights_hash
    with torch.no_grad():
        for weight in model.module.parameters():
            if way == "data":
                weight.data.mul_(1.25)
            else:
                weight.detach().numpy()[...] *= 1.25
    after = nibt.explain(model, images[0], "a red cat")
    assert model.weights_hash != before[1]
    model.module.save_pretrained(tmp_path / "saved")
    model.request.processor.save_pretrained(tmp_path / "saved")
    anew = nibt.explain(tmp_path / "saved", images[0], "a red cat")
    # not to the bit, since weights of a file are aligned otherwise in memory
    assert_close(after.grid, anew.grid, 1e-6)
    assert float(after.image.path.at_baseline) == pytest.approx(float(anew.image.path.at_baseline))  # pyright: ignore


LOADINGS = [{"dtype": "bfloat16"}, {"image_size": 96}, {"resize": "model", "image_size": None}]


@pytest.mark.slow
@pytest.mark.parametrize("loading", few(LOADINGS, LOADINGS[:1]))
def test_batch_rejects_a_model_loaded_with_other_options(tmp_path: Path, data: Path, loading: dict[str, Any]) -> None:
    nibt.batch("lite", data / "pairs.csv", tmp_path / "job", "grad_cam", loading={"image_size": 64})
    with pytest.raises(OtherRequest, match=rf"model\.{next(iter(loading))}"):
        nibt.batch(
            "lite",
            data / "pairs.csv",
            tmp_path / "job",
            "grad_cam",
            loading={"image_size": 64, **loading},
        )


def test_batch_rejects_other_pairs(model: Model, finished: Path, tmp_path: Path) -> None:
    for change in ("caption", "order", "row"):
        folder = shutil.copytree(finished, tmp_path / change)
        lines = (folder / "pairs.csv").read_text().splitlines()
        changed = {
            "caption": [lines[0], lines[1].replace("a cat", "a cow"), *lines[2:]],
            "order": [lines[0], *lines[:0:-1]],
            "row": [*lines, lines[1]],
        }[change]
        (folder / "pairs.csv").write_text("\n".join(changed) + "\n")
        with pytest.raises(OtherRequest, match=r"pairs\.fingerprint"):
            nibt.batch(model, folder / "pairs.csv", folder / "job", **JOB)


def test_batch_rejects_a_replaced_image(model: Model, finished: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "data")
    tiny.image(48, 40, 9).pil_image.save(folder / "1.png")
    with pytest.raises(OtherRequest, match=r"row 1: 1\.png with the digest [0-9a-f]{16} \(now [0-9a-f]{16}\)"):
        nibt.batch(model, folder / "pairs.csv", folder / "job", **JOB)
    (folder / "1.png").unlink()
    with pytest.raises(OtherRequest, match="now unreadable"):
        nibt.batch(model, folder / "pairs.csv", folder / "job", **JOB)


def test_batch_rejects_another_contrast_image(model: Model, data: Path, tmp_path: Path) -> None:
    options = {**JOB, "target": "difference", "against_images": str(data / "2.png")}
    nibt.batch(model, data / "pairs.csv", tmp_path / "job", **options)
    tiny.image(48, 40, 9).pil_image.save(tmp_path / "2.png")
    with pytest.raises(OtherRequest, match="against_images_hash"):
        nibt.batch(model, data / "pairs.csv", tmp_path / "job", **options | {"against_images": str(tmp_path / "2.png")})


def test_batch_rejects_other_mean_states(model: Model, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "mean.safetensors"
    nibt.calibrate(model, [data / "0.png"], CAPTIONS, file)
    options = {**JOB, "baseline": f"mean:{file}"}
    nibt.batch(model, data / "pairs.csv", tmp_path / "job", **options)
    nibt.calibrate(model, [data / "1.png"], CAPTIONS, file, overwrite=True)
    with pytest.raises(OtherRequest, match="files"):
        nibt.batch(model, data / "pairs.csv", tmp_path / "job", **options)


TAKES_FILES = {
    (name, option, word)
    for name in available("methods")
    for option, word, field_name in (("baseline", "mean", "baseline"), ("units", "segments", "segments"))
    if field_name in {field.name for field in fields(find("methods", name))}
}
"""Every option of every method that names a file."""


@pytest.mark.parametrize("option", ["baseline", "units"])
def test_files_that_options_name_are_a_part_of_the_request(option: str, model: Model, tmp_path: Path) -> None:
    """Also one with the stem of an image in its name, and for each method that has the option."""
    of_option = sorted(name for name, known, _ in TAKES_FILES if known == option)
    methods = [name for name in of_option if "answer" not in find("methods", name).needs]  # of a dual encoder
    assert methods
    if option == "baseline":
        file, other = tmp_path / "mean.safetensors", tmp_path / "other.safetensors"
        nibt.calibrate(model, [tiny.image()], CAPTIONS, file)
        nibt.calibrate(model, [tiny.image(seed=1)], CAPTIONS, other)
        names = [f"mean:{file}"]
    else:
        file, other = tmp_path / "s-0.npy", tmp_path / "s-1.npy"
        np.save(file, np.arange(64 * 48).reshape(48, 64) // 999)
        np.save(other, np.arange(64 * 48).reshape(48, 64) // 888)
        names = [f"segments:{file}", f"segments:{tmp_path}/s-{{stem}}.npy"]
    for name in methods:
        value = {option: names[0]} if name != "integrated_gradients" else {}
        for text in names if value else []:
            before = resolve(model, Request(MethodSpec(name, "default", {option: text}))).record["method"]
            assert set(before["files"]) == {text}
            whole = file.read_bytes()
            file.write_bytes(other.read_bytes())
            after = resolve(model, Request(MethodSpec(name, "default", {option: text}))).record["method"]
            file.write_bytes(whole)
            assert before["files"] != after["files"]


def test_batch_rejects_a_model_that_changed_in_one_value(data: Path, tmp_path: Path) -> None:
    """Through ``.data``, where no sampled value has it."""
    changed = tiny.fresh("clip")
    nibt.batch(changed, data / "pairs.csv", tmp_path / "job", **JOB)
    changed.module.text_model.encoder.layers[1].mlp.fc1.weight.data[3, 5] += 5
    with pytest.raises(OtherRequest, match="weights_hash"):
        nibt.batch(changed, data / "pairs.csv", tmp_path / "job", **JOB)


def test_batch_rejects_other_segments(model: Model, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.npy"
    for path in data.rglob("*.png"):
        tiny.image().pil_image.save(path)
    width, height = tiny.image().size
    np.save(file, np.arange(width * height).reshape(height, width) // 999)
    options = {**JOB, "method": "occlusion", "units": f"segments:{file}"}
    options.pop("steps", None)
    nibt.batch(model, data / "pairs.csv", tmp_path / "job", **options)
    np.save(file, np.arange(width * height).reshape(height, width) // 888)
    with pytest.raises(OtherRequest, match="files"):
        nibt.batch(model, data / "pairs.csv", tmp_path / "job", **options)


def test_batch_rejects_another_split(model: Model, tmp_path: Path, data: Path) -> None:
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    columns = {"image": [str(data / f"{item}.png") for item in range(3)], "caption": CAPTIONS}
    table = package.Dataset.from_dict(columns).cast_column("image", package.Image())
    package.DatasetDict({"one": table, "two": table}).save_to_disk(tmp_path / "saved")
    nibt.batch(model, tmp_path / "saved", tmp_path / "job", split="one", **JOB)
    with pytest.raises(OtherRequest, match=r"pairs\.split: one \(now two\)"):
        nibt.batch(model, tmp_path / "saved", tmp_path / "job", split="two", **JOB)


def test_batch_resumes_under_other_names(model: Model, finished: Path, tmp_path: Path) -> None:
    """Where a job runs, and the names of its folder and model, are not part of the request."""
    folder = shutil.copytree(finished, tmp_path / "moved")
    renamed = replace(model, id="another name")
    job = nibt.batch(renamed, folder / "pairs.csv", folder / "job", on_progress=lambda progress: None, **JOB)
    assert job.manifest.errors == 0


def test_batch_command_reports_old_and_new_values(run: Run, clip_folder: Path, data: Path) -> None:
    arguments = ("batch", data / "pairs.csv", "-m", clip_folder, "--out", "JOB", "--method", "nib steps=2")
    assert run(*arguments)[0] == 0
    code, _, err = run(*arguments[:-1], "occlusion", "--batch-size", 4)
    assert code == 2
    assert "method.name: nib (now occlusion)" in err
    assert "batch_size: 8 (now 4)" in err
    code, _, err = run("batch", data / "pairs.csv", "-m", "./nosuch", "--out", "JOB", "--method", "nib steps=2")
    assert (code, "no model" in err) == (1, True), "a finished job needs its model as well"
    assert run(*arguments)[0] == 0


PLAN: dict[str, Any] = {
    "models": [{"name": "MODEL", "label": "tiny"}],
    "methods": [{"name": "ones"}],
    "data": [{"name": "folder", "options": {"folder": "DATA", "key": "key"}}],
    "metrics": ["special_token_share"],
}


PLAN_CHANGES: dict[str, Any] = {
    "models": [{"name": "MODEL", "label": "tiny", "options": {"image_size": 48}}],
    "methods": [{"name": "ones"}, {"name": "nib", "options": {"steps": 1}}],
    "data": [{"name": "folder", "options": {"folder": "DATA", "key": "key", "count": 2}}],
    "metrics": ["special_token_share", "corner_share"],
    "targets": ["logit"],
    "seeds": [1],
    "sides": ["image"],
    "batch_size": 2,
    "against": ["a dog"],
    "count": 2,
    "published": True,
    "published_values": [{"data": "folder", "method": "ones", "metric": "energy", "value": 0.5, "source": "Table 1"}],
    "protocol": [{"step": "Threshold", "authors": "the mean", "source": "eval.py"}],
}


def plan(changes: dict[str, Any], model: Path, data: Path) -> dict[str, Any]:
    text = json.dumps({**PLAN, **changes}).replace("MODEL", str(model)).replace("DATA", str(data))
    return json.loads(text)


def test_changes_cover_every_field_of_a_plan() -> None:
    assert set(Plan.model_fields) == set(PLAN_CHANGES) | {"about"}


@pytest.mark.parametrize("name", few(sorted(PLAN_CHANGES), sorted(PLAN_CHANGES)[:3]))
def test_bench_rejects_another_plan(clip_folder: Path, data: Path, tmp_path: Path, name: str) -> None:
    nibt.benchmark(plan({}, clip_folder, data), tmp_path / "run")
    nibt.benchmark(plan({"about": "other words"}, clip_folder, data), tmp_path / "run")
    before = file_digests(tmp_path / "run" / "parts")
    used = {"targets": ["difference"]} if name == "against" else {}  # without which it has no effect
    with pytest.raises(OtherRequest, match=rf"plan\.{name}|lengths"):
        nibt.benchmark(plan({name: PLAN_CHANGES[name], **used}, clip_folder, data), tmp_path / "run")
    assert file_digests(tmp_path / "run" / "parts") == before


def test_bench_rejects_other_contents(clip_folder: Path, data: Path, tmp_path: Path) -> None:
    request = plan({}, clip_folder, data)
    nibt.benchmark(request, tmp_path / "run")
    tiny.image(48, 40, 9).pil_image.save(data / "1.png")
    with pytest.raises(OtherRequest, match=r"contents\.folder"):
        nibt.benchmark(request, tmp_path / "run")


def test_bench_rejects_other_weights_after_it_is_finished(
    clip_folder: Path, other_model: Model, data: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(clip_folder, tmp_path / "model")
    nibt.benchmark(plan({}, folder, data), tmp_path / "run")
    assert not Benchmark.open(tmp_path / "run").missing_chunks()
    other_model.module.save_pretrained(folder)
    with pytest.raises(OtherRequest, match="weights_hash"):
        nibt.benchmark(plan({}, folder, data), tmp_path / "run")


def test_bench_rejects_a_foreign_plan(clip_folder: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for text in ('{"a": "mine"}', '{"plan": "mine"}', "[]"):
        (tmp_path / "run" / "manifest.json").write_text(text)
        with pytest.raises(BadInput, match="is not a manifest of the kind 'benchmark'"):
            nibt.benchmark(plan({}, clip_folder, data), tmp_path / "run")
        assert (tmp_path / "run" / "manifest.json").read_text() == text


ROAR_CHANGES: dict[str, Any] = {
    "validation": 30,
    "image_percentile": 80,
    "text_percentile": 80,
    "learning_rates": 1e-3,
    "epochs": 2,
    "batch_size": 4,
    "blocks": 2,
    "init": "fresh",
    "seed": 1,
    "explain_batch": 4,
}


def test_changes_cover_every_setting_of_roar() -> None:
    assert {field.name for field in fields(Settings)} == set(ROAR_CHANGES)


def test_roar_rejects_other_settings(model: Model, other_model: Model, tmp_path: Path) -> None:
    pairs = [nibt.Pair(tiny.image(40, 40, seed), f"{CAPTIONS[seed % 3]} {seed}") for seed in range(10)]
    base: dict[str, Any] = {"out": tmp_path / "run", "repeats": 1, "side": "text", "epochs": 1}
    nibt.roar(model, pairs, "ones", **base)
    before = file_digests(tmp_path / "run" / "parts")
    for name, value in ROAR_CHANGES.items():
        with pytest.raises(OtherRequest, match=rf"settings\.{name}"):
            nibt.roar(model, pairs, "ones", **base | {"learning_rate" if name == "learning_rates" else name: value})
    with pytest.raises(OtherRequest, match=r"model\.weights_hash"):
        nibt.roar(other_model, pairs, "ones", **base)
    with pytest.raises(OtherRequest, match="pairs"):
        nibt.roar(model, [*pairs[1:], pairs[0]], "ones", **base)
    assert file_digests(tmp_path / "run" / "parts") == before


AUDIT_CHANGES: dict[str, tuple[object, ...]] = {
    "methods": ("--method", "gae"),
    "seed": ("--seed", "1"),
    "quick": ("--quick", "--count", "24"),
    "data": ("--count", "9"),
    "against": ("--against", "scenes"),
}


@pytest.fixture
def audit_by_hand(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An audit without its computations."""

    def audit(
        model: Model, pairs: Any, methods: Any, *, against: Model | None, seed: int, quick: bool, data: Any, **_: Any
    ) -> Audit:
        other = against and against.record()
        return Audit(model.record(), data, tuple(methods), seed, 0.0, {}, (), (), (), quick=quick, against=other)

    monkeypatch.setattr("nibt.evaluation.audit.audit", audit)
    return


def test_changes_cover_every_field_of_an_audit() -> None:
    follows = {"model", "subject"}  # the subject follows from the model and the data
    assert set(inspect.signature(audit_request).parameters) == set(AUDIT_CHANGES) | follows


@pytest.mark.slow
@pytest.mark.usefixtures("audit_by_hand")
@pytest.mark.parametrize("name", sorted(AUDIT_CHANGES))
def test_audit_rejects_replacing_another(run: Run, clip_folder: Path, name: str) -> None:
    arguments = ("audit", "scenes", "-m", clip_folder, "--out", "a.html")
    assert run(*arguments)[0] == 0
    assert run(*arguments)[0] == 0, "the same request again"
    before = file_digests(Path())
    code, _, err = run(*arguments, *AUDIT_CHANGES[name])
    assert code == 2
    assert name in err
    assert "(now " in err
    assert file_digests(Path()) == before
    assert run(*arguments, *AUDIT_CHANGES[name], "--overwrite")[0] == 0


@pytest.mark.slow
@pytest.mark.usefixtures("audit_by_hand")
def test_audit_rejects_another_model(run: Run, clip_folder: Path) -> None:
    assert run("audit", "scenes", "-m", clip_folder, "--out", "a.html")[0] == 0
    for more in (("scenes", "-m", "scenes"), ("scenes", "-m", clip_folder, "--load", "image_size=48")):
        code, _, err = run("audit", *more, "--out", "a.html")
        assert (code, "model." in err) == (2, True)


def test_calibrate_gives_the_same_bytes(model: Model, data: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file in files:
        nibt.calibrate(model, [data / "0.png"], CAPTIONS, file)
    assert len({file.read_bytes() for file in files}) == 1


def test_calibrate_rejects_replacing_other_mean_states(
    model: Model, other_model: Model, data: Path, tmp_path: Path
) -> None:
    file, images = tmp_path / "mean.safetensors", [data / "0.png", data / "1.png"]
    nibt.calibrate(model, images, CAPTIONS, file)
    nibt.calibrate(model, images, CAPTIONS, file)
    before = file.read_bytes()
    larger = replace(model, request=replace(model.request, image_size=48))
    configured = replace(model).renewed()
    configured.kept["configuration"] = "another"
    changes: list[tuple[str, Any]] = [
        ("pictures_hash", lambda: nibt.calibrate(model, images[::-1], CAPTIONS, file)),
        ("captions_hash", lambda: nibt.calibrate(model, images, CAPTIONS[:2], file)),
        ("layers", lambda: nibt.calibrate(model, images, CAPTIONS, file, layers=[1])),
        ("weights_hash", lambda: nibt.calibrate(other_model, images, CAPTIONS, file)),
        ("image_size", lambda: nibt.calibrate(larger, images, CAPTIONS, file)),
        ("configuration_hash", lambda: nibt.calibrate(configured, images, CAPTIONS, file)),
    ]
    for name, change in changes:
        with pytest.raises(OtherRequest, match=name):
            change()
    assert file.read_bytes() == before
    nibt.calibrate(model, images, CAPTIONS[:2], file, overwrite=True)
    assert file.read_bytes() != before
