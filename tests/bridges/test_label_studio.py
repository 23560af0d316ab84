"""Tests of ``nibt.bridges.label_studio``, with the package ``label-studio-sdk`` and, where it is, Label Studio itself.

Neither is part of the tools of developers: the newest SDK needs an older NumPy, and the server brings 150 packages. To
run all tests here, install the server into an environment of its own, and an SDK into that of nibt::

    python3 -m venv LS && LS/bin/pip install label-studio
    pip install label-studio-sdk==1.0.12
    NIBT_LABEL_STUDIO=LS/bin/label-studio python -m pytest -n 0 -m "" tests/bridges/test_label_studio.py

The server gets an empty folder, and a user who is made up, and is stopped at the end.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest

import nibt
from nibt.bridges.label_studio import Predictor
from nibt.data.images import sample_file
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.models.base import Model

CONFIG = """<View>
  <Image name="photo" value="$image"/>
  <BrushLabels name="mask" toName="photo"><Label value="cat"/><Label value="ship"/></BrushLabels>
  <RectangleLabels name="box" toName="photo"><Label value="a house" alias="house"/></RectangleLabels>
</View>"""
CAPTIONED = """<View>
  <Image name="photo" value="$image"/><Text name="text" value="$caption"/>
  <BrushLabels name="word" toName="photo"><Label value="cat"/><Label value="house"/><Label value="ship"/></BrushLabels>
  <BrushLabels name="whole" toName="photo"><Label value="evidence"/></BrushLabels>
</View>"""


@pytest.fixture(scope="module")
def brush() -> ModuleType:
    """The encoder and decoder of masks of the SDK."""
    return pytest.importorskip(
        "label_studio_sdk.converter.brush", reason="label-studio-sdk is not part of the tools of developers"
    )


def free_port() -> int:
    """Return a port that no server has."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files, and records what it was sent."""

    seen: list[tuple[str, str]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        Quiet.seen.append((self.path, self.headers.get("Authorization", "")))
        super().do_GET()

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def images(tmp_path: Path) -> Iterator[str]:
    """The address of a server with the image of drawn objects, and with files that are no images."""
    Quiet.seen = []
    shutil.copy(sample_file("scene"), tmp_path / "scene.png")
    (tmp_path / "text.png").write_text("no image")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def masks(brush: ModuleType, results: list[dict[str, Any]], control: str, label: str) -> np.ndarray | None:
    """Return the union of the decoded masks of a label; None without one."""
    union: np.ndarray | None = None
    for result in results:
        value = result["value"]
        if result["from_name"] == control and value["brushlabels"] == [label]:
            shape = result["original_height"], result["original_width"], 4
            mask = np.asarray(brush.decode_rle(value["rle"])).reshape(shape)[:, :, 3] > 0
            union = mask if union is None else union | mask
    return union


def boxes(results: list[dict[str, Any]], control: str) -> list[tuple[float, ...]]:
    """Return the boxes of a control in pixels."""
    found = []
    for result in results:
        if result["from_name"] == control:
            value, width, height = result["value"], result["original_width"], result["original_height"]
            sides = ("x", width), ("y", height), ("width", width), ("height", height)
            found.append(tuple(round(value[name] * side / 100, 3) for name, side in sides))
    return found


def check_scene(brush: ModuleType, results: list[dict[str, Any]], model: Model) -> None:
    """Check the masks and boxes of ``CONFIG`` for the drawn scene against the maps of ``nibt.explain``."""
    cat = nibt.explain(model, "sample:scene", "cat")
    found = masks(brush, results, "mask", "cat")
    assert found is not None
    assert np.array_equal(found, cat.mask())
    assert masks(brush, results, "mask", "ship") is None, "which the image does not show"
    house = nibt.explain(model, "sample:scene", "a house")
    expected = [tuple(map(float, part.box)) for part in house.regions()]
    assert expected
    assert boxes(results, "box") == expected
    labels = {label for each in results for label in each["value"].get("rectanglelabels", ())}
    assert labels == {"house"}, "the alias, which is what annotations have"


def test_predictions_are_the_masks_and_boxes_of_maps(brush: ModuleType, scenes: Model, images: str) -> None:
    (labels,) = Predictor(scenes, images).predict(CONFIG, [{"id": 1, "data": {"image": "/scene.png"}}])
    (prediction,) = labels
    check_scene(brush, prediction["result"], scenes)
    assert prediction["model_version"] == "nibt scenes nib"
    similarities = [nibt.explain(scenes, "sample:scene", caption).similarity for caption in ("cat", "a house")]
    assert {result["score"] for result in prediction["result"]} == set(similarities)
    assert prediction["score"] == max(similarities)
    assert len({result["id"] for result in prediction["result"]}) == len(prediction["result"])
    (twice,) = Predictor(scenes, images, threshold=0.9).predict(CONFIG, [{"data": {"image": "/scene.png"}}])
    found = masks(brush, twice[0]["result"], "mask", "cat")
    assert found is not None
    assert np.array_equal(found, nibt.explain(scenes, "sample:scene", "cat").mask(0.9))


def test_labels_of_a_caption_have_the_maps_of_its_words(brush: ModuleType, scenes: Model, images: str) -> None:
    caption = "a cat and a house"
    task = {"id": 1, "data": {"image": "/scene.png", "caption": caption}}
    ((prediction,),) = Predictor(scenes, images).predict(CAPTIONED, [task])
    table: Any = nibt.regions(scenes, "sample:scene", caption)
    for label in ("cat", "house"):
        found = masks(brush, prediction["result"], "word", label)
        assert found is not None
        scores = table.heatmap(label)
        assert np.array_equal(found, scores >= 0.5 * float(table.for_words(label).max()))
    assert masks(brush, prediction["result"], "word", "ship") is None
    whole = masks(brush, prediction["result"], "whole", "evidence")
    assert whole is not None
    assert np.array_equal(whole, nibt.explain(scenes, "sample:scene", caption).mask())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"image": "/gone.png"}, "cannot be read (status 404)"),
        ({"image": "/text.png"}, "text.png"),
        ({"image": "http://127.0.0.1:9/a.png"}, "is on another server: upload it to Label Studio"),
        ({"image": "file:///etc/passwd"}, "is on another server"),
        ({"image": "//evil.example/a.png"}, "is on another server"),
        ({"image": "s3://bucket/a.png"}, "is on another server"),
        ({"image": ""}, "must have the address of an image in 'image'"),
        ({"image": 3}, "must have the address of an image in 'image'"),
        ({}, "must have the address of an image in 'image'"),
        (None, "a task must have data"),
    ],
)
def test_a_task_that_cannot_be_explained_has_no_prediction_and_a_reason(
    brush: ModuleType, scenes: Model, images: str, data: Any, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [{"id": 7, "data": data}, {"id": 8, "data": {"image": "/scene.png"}}]
    first, second = Predictor(scenes, images, "grad_cam").predict(CONFIG, tasks)
    assert (first, len(second)) == ([], 1)
    assert "task 7 of Label Studio has no prediction" in caplog.text
    assert message in caplog.text


def test_the_access_token_goes_to_label_studio_only(
    brush: ModuleType, scenes: Model, images: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
    Predictor(scenes, images, "grad_cam").predict(CONFIG, [{"data": {"image": "/scene.png"}}])
    assert Quiet.seen == [("/scene.png", "Token secret")]
    elsewhere = {"data": {"image": f"{images}/scene.png"}}
    other = Predictor(scenes, "http://localhost:1", "grad_cam", image_hosts="127.0.0.1")
    assert len(other.predict(CONFIG, [elsewhere])[0]) == 1
    assert Quiet.seen[1:] == [("/scene.png", "")]
    assert Predictor(scenes, "http://localhost:1", "grad_cam").predict(CONFIG, [elsewhere]) == [[]]
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("", "cannot be read"),
        ("<View>", "cannot be read"),
        ("<View><Image name='i' value='$image'/></View>", "must have an Image, and BrushLabels or RectangleLabels"),
        ("<View><BrushLabels name='m' toName='i'><Label value='a'/></BrushLabels></View>", "must have an Image"),
        ("<View><Image name='i' value='$x'/><BrushLabels name='m' toName='i' value='$y'/></View>", "with labels"),
    ],
)
def test_other_projects_are_refused(brush: ModuleType, scenes: Model, config: str, message: str) -> None:
    predictor = Predictor(scenes, "http://localhost:8080")
    with pytest.raises(BadInput, match=message):
        predictor.predict(config, [])
    with client(predictor) as backend:
        for path, body in (("/setup", {"schema": config}), ("/predict", {"label_config": config, "tasks": []})):
            response = backend.post(path, json=body)
            assert response.status_code == 400
            assert message in response.json()["error"]


@contextmanager
def client(predictor: Predictor) -> Iterator[httpx.Client]:
    """Return a client of the backend, in this process."""
    testing = pytest.importorskip("fastapi.testclient")
    with testing.TestClient(predictor.app(), raise_server_exceptions=True) as backend:
        yield backend


def test_backend_answers_what_label_studio_asks(brush: ModuleType, scenes: Model, images: str) -> None:
    with client(Predictor(scenes, images, "grad_cam")) as backend:
        assert backend.get("/health").json()["status"] == "UP"
        assert backend.post("/setup", json={"schema": CONFIG}).json() == {"model_version": "nibt scenes grad_cam"}
        body = {"label_config": CONFIG, "tasks": [{"id": 1, "data": {"image": "/scene.png"}}, {"id": 2}]}
        results = backend.post("/predict", json=body).json()["results"]
        assert [len(each) for each in results] == [1, 0]
        assert backend.post("/predict", json={"tasks": "all"}).status_code == 400
        assert backend.post("/predict", content=b"no JSON").status_code == 422
        assert backend.post("/webhook", json={"action": "START_TRAINING"}).status_code == 200


@pytest.mark.usefixtures("unchecked")
def test_options_are_checked_before_tasks_come(
    brush: ModuleType, scenes: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in ("localhost:8080", "ftp://a", "", "http://a:b@c"):
        with pytest.raises(BadOption, match="url must be the address of Label Studio"):
            Predictor(scenes, url)
    with pytest.raises(BadOption, match="threshold"):
        Predictor(scenes, "http://a", threshold=2.0)
    monkeypatch.setitem(sys.modules, "label_studio_sdk.label_interface", None)
    with pytest.raises(Unsupported, match="label-studio-sdk"):
        Predictor(scenes, "http://a")


# The server itself


@dataclass(frozen=True)
class Studio:
    """A running Label Studio."""

    url: str
    client: httpx.Client
    token: str

    def post(self, path: str, **values: Any) -> Any:
        response = self.client.post(path, **values)
        assert response.status_code < 300, response.text
        return response.json()

    def get(self, path: str) -> Any:
        response = self.client.get(path)
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Label Studio with an empty folder; the docstring of this file says how to install it."""
    program = os.environ.get("NIBT_LABEL_STUDIO") or shutil.which("label-studio")
    if program is None:
        pytest.skip("Label Studio is not part of the tools of developers")

    folder = tmp_path_factory.mktemp("studio")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    user = {"email": "a@example.com", "password": "made-up-1"}
    command = [program, "start", "--no-browser", "--port", str(port), "--log-level", "WARNING"]
    command += ["--username", user["email"], "--password", user["password"], "--data-dir", str(folder)]
    quiet = {"COLLECT_ANALYTICS": "false", "SENTRY_RATE": "0", "LATEST_VERSION_CHECK": "0", "HOME": str(folder)}
    quiet |= {"USE_DEFAULT_BANNED_SUBNETS": "false"}  # as the guide says, for a backend on the same machine
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env={**environment, **quiet}, stdout=log, stderr=log)
    try:
        latest = time.monotonic() + 300
        with httpx.Client(base_url=url, follow_redirects=True, timeout=120) as session:
            while True:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < latest, (folder / "log").read_text()[-2000:]
                try:
                    if session.get("/health").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)

            page = session.get("/user/login/").text
            form = re.search(r'csrfmiddlewaretoken" value="([^"]+)', page)
            assert form is not None
            referer = {"Referer": f"{url}/"}
            session.post("/user/login/", data={**user, "csrfmiddlewaretoken": form[1]}, headers=referer)
            session.headers.update({"X-CSRFToken": session.cookies["csrftoken"], **referer})
            yield Studio(url, session, session.post("/api/token/").json()["token"])
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def serving(predictor: Predictor) -> Iterator[str]:
    """Serve a backend from a thread."""
    uvicorn = pytest.importorskip("uvicorn")
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(predictor.app(), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.slow
def test_label_studio_gets_masks_and_boxes(
    brush: ModuleType, scenes: Model, studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A project with an uploaded image: predictions are asked for by the server, and read back from it."""
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.token)
    project = studio.post("/api/projects", json={"title": "nibt", "label_config": CONFIG})["id"]
    with sample_file("scene").open("rb") as image:
        studio.post(f"/api/projects/{project}/import", files={"file": ("scene.png", image, "image/png")})
    (task,) = studio.get(f"/api/tasks?project={project}")["tasks"]
    assert task["data"]["image"].startswith("/data/upload/")

    with serving(Predictor(scenes, studio.url)) as address:
        backend = studio.post("/api/ml", json={"url": address, "project": project, "title": "nibt"})
        assert (backend["state"], backend["error_message"]) == ("CO", None)
        action = f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}"
        studio.post(action, json={"selectedItems": {"all": True, "excluded": []}, "project": project})

    (prediction,) = studio.get(f"/api/predictions?task={task['id']}")
    assert prediction["model_version"] == "nibt scenes nib"
    check_scene(brush, prediction["result"], scenes)


@pytest.mark.slow
def test_label_studio_does_not_connect_other_projects(
    brush: ModuleType, scenes: Model, studio: Studio, caplog: pytest.LogCaptureFixture
) -> None:
    config = "<View><Text name='t' value='$text'/><Choices name='c' toName='t'><Choice value='a'/></Choices></View>"
    project = studio.post("/api/projects", json={"title": "text", "label_config": config})["id"]
    with serving(Predictor(scenes, studio.url)) as address:
        response = studio.client.post("/api/ml", json={"url": address, "project": project, "title": "nibt"})
    assert response.status_code == 400
    assert "it doesn't look like a valid ML backend" in response.text
    assert "Label Studio asks for what this backend does not do: the configuration of the project must" in caplog.text


@pytest.mark.slow
def test_a_wrong_token_is_named(
    brush: ModuleType,
    scenes: Model,
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = [{"id": 1, "data": {"image": "/data/upload/1/none.png"}}]
    for token, message in (
        ("wrong", "put an access token into the environment variable LABEL_STUDIO_API_KEY"),
        (f"{studio.token[:-4]}aaaa", "refuses the access token in LABEL_STUDIO_API_KEY: create another one"),
    ):
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", token)
        assert Predictor(scenes, studio.url).predict(CONFIG, task) == [[]]
        assert message in caplog.text
        assert token not in caplog.text
