"""A machine-learning backend of Label Studio: masks and boxes of labels, from maps.

Label Studio sends tasks to the address of a backend, and shows annotators what it answers. The configuration of a
project is read, and masks are encoded, by the package ``label-studio-sdk``. Images are read from the one Label Studio
that the backend was made for, and from hosts that its user names: tasks cannot let it read files or call other servers.
"""

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import numpy as np
from pydantic import Field

from nibt.data.images import ImageInput, decode_image
from nibt.data.pair import as_list
from nibt.engine.explain import explain
from nibt.engine.regions import regions
from nibt.errors import BadInput, BadOption, NibtError, ServerFailed, Unsupported, first_line, install
from nibt.io import one_line
from nibt.methods.base import Method
from nibt.models._loading import ModelSource, load_model
from nibt.options import Keywords, Share, parsed
from nibt.records import JsonObject
from nibt.registry import MethodSpec
from nibt.results.base import ResultWithMaps
from nibt.results.connected_regions import map_regions
from nibt.results.explanation import Explanation
from nibt.results.map_regions import MapRegion, threshold_mask
from nibt.results.notes import NO_MATCH
from nibt.results.regions import Regions

if TYPE_CHECKING:
    from fastapi import FastAPI

_LOG = logging.getLogger("nibt")
_KINDS = {"BrushLabels": "brushlabels", "RectangleLabels": "rectanglelabels"}
"""The tags of a configuration that a backend fills in, with the type of their results."""
_LARGEST_IMAGE = 64 * 2**20  # bytes
_TIMEOUT = 30.0  # seconds, for an image
_EXTRAS = {"fastapi": "app", "httpx": "server"}


@dataclass(frozen=True)
class Control:
    """A tag of a configuration that asks for masks or boxes.

    Attributes:
        name: The name of the tag.
        image: The name of the tag of the image.
        key: The key of a task that has the address of the image.
        kind: ``brushlabels`` or ``rectanglelabels``.
        labels: The labels, with the captions that stand for them.
    """

    name: str
    image: str
    key: str
    kind: str
    labels: Mapping[str, str]


class Predictor:
    """A machine-learning backend of Label Studio, which suggests masks and boxes for labels.

    A project has an image and ``BrushLabels``, ``RectangleLabels`` or both. Each of their labels is explained as a
    caption, and the parts of the map above the threshold are its masks or boxes. A label that the model does not rate
    as a match, or whose map is noise, has none.

    If the project also has a ``Text``, that is the caption: a label that is a word of it has the map of this word. A
    tag with a single label that is no word of it has the map of the whole caption.

    Args:
        model: A model, or what ``nibt.load_model`` takes.
        url: The address of Label Studio, such as ``http://localhost:8080``. Images are read from it.
        method: The method.
        threshold: The least score of a mask or a box, as a share of the largest positive score of the map.
        key_env: The name of the environment variable with an access token of Label Studio, with which images are read.
            It is sent to no other server.
        image_hosts: Other servers from which images of tasks may be read, such as ``images.example.org``.
        **options: Options of ``nibt.explain``, such as ``templates`` or ``steps``. With a caption, only those of the
            method have an effect.

    Raises:
        BadOption: The address is none, or an option has an invalid value.
        Unsupported: A package is not installed.
    """

    def __init__(
        self,
        model: ModelSource,
        url: str,
        method: str | MethodSpec | Method = "nib",
        *,
        threshold: float = 0.5,
        key_env: str = "LABEL_STUDIO_API_KEY",
        image_hosts: str | Sequence[str] = (),
        **options: object,
    ) -> None:
        self._client = _package("httpx")
        self._interface = _package("label_studio_sdk.label_interface").LabelInterface
        self._brush = _package("label_studio_sdk.converter.brush")
        self._url = self._address(url)
        self._model = load_model(model)
        self._method = method
        self._threshold = parsed("threshold", threshold, Share)
        self._key_env = parsed("key_env", key_env, Annotated[str, Field(min_length=1)])
        self._hosts = frozenset(parsed("image_hosts", host, str).lower() for host in as_list(image_hosts))
        self._options: Keywords = options
        self._busy = threading.Lock()  # a model explains one image at a time
        name = method if isinstance(method, str) else type(method).__name__
        self.version = f"nibt {self._model.record()['id']} {name}"
        """The version of the model that Label Studio shows beside predictions."""

    def controls(self, config: str) -> list[Control]:
        """Return the tags of the configuration of a project that the backend fills in.

        Args:
            config: The configuration as XML.

        Raises:
            BadInput: The configuration cannot be read, or has no image with ``BrushLabels`` or ``RectangleLabels``.
        """
        try:
            interface = self._interface(config)
            controls = list(interface.controls)
        except Exception as error:  # of the package, which has several
            raise BadInput(f"the configuration of the project cannot be read ({first_line(error)})") from error

        found = []
        for tag in controls:
            images = [each for each in tag.objects if each.tag == "Image"]
            if tag.tag in _KINDS and images and tag.labels:
                labels = {label: str(tag.labels_attrs[label].attr.get("value") or label) for label in tag.labels}
                key = str(images[0].value).removeprefix("$")
                found.append(Control(tag.name, images[0].name, key, _KINDS[tag.tag], labels))

        if not found:
            raise BadInput(
                "the configuration of the project must have an Image, and BrushLabels or RectangleLabels with labels: "
                "add them to the labeling interface"
            )
        return found

    def predict(self, config: str, tasks: Sequence[JsonObject]) -> list[list[JsonObject]]:
        """Return the predictions of tasks.

        Args:
            config: The configuration of the project as XML.
            tasks: The tasks, as Label Studio sends them.

        Returns:
            For each task a list with its prediction, which is empty if the task cannot be explained: the reason is
            logged, and the other tasks have theirs.

        Raises:
            BadInput: The configuration cannot be read, or asks for no masks and boxes.
        """
        controls = self.controls(config)
        caption_key = self._caption_key(config)
        predictions: list[list[JsonObject]] = []
        for task in tasks:
            try:
                predictions.append([self._prediction(controls, caption_key, task)])
            except NibtError as error:
                number = task.get("id") if isinstance(task, Mapping) else None
                _LOG.warning("task %s of Label Studio has no prediction: %s", number, one_line(str(error)))
                predictions.append([])

        return predictions

    def app(self) -> "FastAPI":
        """Return the server of the backend, for ``uvicorn.run``.

        Raises:
            Unsupported: FastAPI is not installed.
        """
        fastapi = _package("fastapi")
        server = fastapi.FastAPI(title="nibt", docs_url=None, redoc_url=None, openapi_url=None)

        def answer(values: JsonObject) -> Any:
            return fastapi.responses.JSONResponse(values)

        def refusal(error: object) -> Any:  # which Label Studio hides behind its status
            _LOG.warning("Label Studio asks for what this backend does not do: %s", one_line(str(error)))
            return fastapi.responses.JSONResponse({"error": str(error)}, 400)

        @server.get("/")
        @server.get("/health")
        def health() -> Any:
            return answer({"status": "UP", "model_class": "nibt"})

        @server.post("/setup")
        def setup(body: dict = fastapi.Body()) -> Any:  # noqa: B008 - how FastAPI declares what is sent
            try:
                self.controls(str(body.get("schema", "")))
            except BadInput as error:
                return refusal(error)
            return answer({"model_version": self.version})

        @server.post("/predict")
        def predict(body: dict = fastapi.Body()) -> Any:  # noqa: B008
            tasks = body.get("tasks")
            if not isinstance(tasks, list):
                return refusal("tasks must be a list of tasks of Label Studio")
            try:
                return answer({"results": self.predict(str(body.get("label_config", "")), tasks)})
            except BadInput as error:
                return refusal(error)

        @server.post("/webhook")
        def webhook() -> Any:  # of training, which there is none of
            return answer({})

        return server

    def _prediction(self, controls: Sequence[Control], caption_key: str, task: JsonObject) -> JsonObject:
        """Return the prediction of a task."""
        data = task.get("data") if isinstance(task, Mapping) else None
        if not isinstance(data, Mapping):
            raise BadInput(f"a task must have data (got {task!r:.100})")

        caption = ""
        if caption_key:
            caption = data.get(caption_key)
            if not isinstance(caption, str) or not caption.strip():
                raise BadInput(f"the task must have a caption in {caption_key!r} (got {caption!r:.100})")

        images: dict[str, ImageInput] = {}
        found: dict[tuple[str, str, bool], tuple[list[MapRegion], float]] = {}
        results = []
        for control in controls:
            if control.key not in images:
                images[control.key] = self._image(data.get(control.key), control.key)

            for label, text in control.labels.items():
                about = (control.key, text, len(control.labels) == 1)  # which may have that of the caption
                if about not in found:
                    with self._busy:
                        found[about] = self._regions(images[control.key], control, text, caption)
                parts, similarity = found[about]
                results += [
                    {**self._result(control, label, part, images[control.key]), "score": similarity} for part in parts
                ]

        score = max((result["score"] for result in results), default=0.0)
        return {"model_version": self.version, "score": score, "result": results}

    def _regions(self, image: ImageInput, control: Control, text: str, caption: str) -> tuple[list[MapRegion], float]:
        """Return the parts of an image that a label has, and the similarity that they explain."""
        if not caption:
            return self._explained(image, text)

        words = [word.lower() for word in caption.replace(",", " ").replace(".", " ").split()]
        label_words = text.lower().split()
        starts = range(len(words) - len(label_words) + 1)
        if any(words[start : start + len(label_words)] == label_words for start in starts):
            table = regions(self._model, image, caption, self._method, **self._options)
            assert isinstance(table, Regions)
            if _is_no_evidence(table):
                return [], table.similarity
            scores = np.nan_to_num(table.heatmap(text))
            largest = float(table.for_words(text).max())
            return map_regions(scores, threshold_mask(scores, largest, self._threshold)), table.similarity

        if len(control.labels) > 1:
            return [], 0.0
        return self._explained(image, caption)

    def _explained(self, image: ImageInput, text: str) -> tuple[list[MapRegion], float]:
        """Return the parts of the map of an image, and the similarity; none if the map is no evidence."""
        explanation = explain(self._model, image, text, self._method, **self._options)
        assert isinstance(explanation, Explanation)
        if _is_no_evidence(explanation):
            return [], explanation.similarity
        return explanation.regions(self._threshold), explanation.similarity

    def _result(self, control: Control, label: str, part: MapRegion, image: ImageInput) -> JsonObject:
        """Return a part of a map as a region of Label Studio."""
        width, height = image.pil_image.size
        if control.kind == "brushlabels":
            rle = self._brush.mask2rle(part.mask.astype(np.uint8) * 255)
            value: JsonObject = {"format": "rle", "rle": [int(number) for number in rle]}
        else:
            left, top, across, down = part.box
            value = {
                "x": 100 * left / width,
                "y": 100 * top / height,
                "width": 100 * across / width,
                "height": 100 * down / height,
                "rotation": 0,
            }

        return {
            "id": uuid4().hex[:10],
            "from_name": control.name,
            "to_name": control.image,
            "type": control.kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {**value, control.kind: [label]},
        }

    def _caption_key(self, config: str) -> str:
        """Return the key of a task that has its caption; empty if the project has none."""
        texts = [tag for tag in self._interface(config).objects if tag.tag == "Text"]
        return str(texts[0].value).removeprefix("$") if texts else ""

    # Images

    def _address(self, url: object) -> Any:
        try:
            address = self._client.URL(str(url))
        except self._client.InvalidURL:
            address = self._client.URL()

        if address.scheme not in ("http", "https") or not address.host or address.userinfo:
            raise BadOption(
                f"url must be the address of Label Studio, such as http://localhost:8080 (got {url!r:.200})"
            )
        return address

    def _image(self, source: object, key: str) -> ImageInput:
        """Read the image of a task."""
        if not isinstance(source, str) or not source:
            raise BadInput(f"the task must have the address of an image in {key!r} (got {source!r:.100})")
        try:
            address = self._url.join(source)
        except self._client.InvalidURL as error:
            raise BadInput(f"the address of the image is none (got {source!r:.200})") from error

        own = (address.scheme, address.host, address.port) == (self._url.scheme, self._url.host, self._url.port)
        if address.scheme == "data":
            raise BadInput("the image of the task is part of its data (data:): upload the image to Label Studio")
        if not own and (address.scheme not in ("http", "https") or address.host.lower() not in self._hosts):
            raise BadInput(
                f"the image {source!r:.200} is on another server: upload it to Label Studio, or name the server in "
                "image_hosts"
            )
        with self._client.Client(timeout=_TIMEOUT, follow_redirects=False) as client:
            headers = self._headers(client) if own else {}
            return decode_image(self._bytes(client, address, headers, source), source)

    def _bytes(self, client: Any, address: Any, headers: Mapping[str, str], source: str) -> bytes:
        """Return what a server sends, up to a limit."""
        data = bytearray()
        try:
            with client.stream("GET", address, headers=headers) as response:
                if response.status_code in (401, 403):
                    raise ServerFailed(
                        f"Label Studio refuses access to {source!r:.200} (status {response.status_code}): put an "
                        f"access token into the environment variable {self._key_env}"
                    )
                if response.status_code != 200:
                    raise BadInput(f"the image {source!r:.200} cannot be read (status {response.status_code})")
                for received in response.iter_bytes():
                    data += received
                    if len(data) > _LARGEST_IMAGE:
                        raise BadInput(
                            f"the image {source!r:.200} has more than {_LARGEST_IMAGE:,} bytes: scale it down"
                        )
        except self._client.HTTPError as error:
            raise ServerFailed(f"the image {source!r:.200} cannot be read ({first_line(error)})") from error
        return bytes(data)

    def _headers(self, client: Any) -> dict[str, str]:
        """Return the headers with which Label Studio gives access to its images."""
        token = os.environ.get(self._key_env, "").strip()
        if not token:
            return {}
        if token.count(".") != 2:  # a legacy token
            return {"Authorization": f"Token {token}"}

        try:  # a personal access token, which is exchanged for one of some minutes
            response = client.post(self._url.join("/api/token/refresh/"), json={"refresh": token})
            access = response.json()["access"] if response.status_code == 200 else ""
        except (self._client.HTTPError, ValueError, LookupError, TypeError) as error:
            raise ServerFailed(f"Label Studio cannot be reached ({first_line(error)}): check its address") from error
        if not access:
            raise ServerFailed(f"Label Studio refuses the access token in {self._key_env}: create another one")
        return {"Authorization": f"Bearer {access}"}


def _is_no_evidence(result: ResultWithMaps) -> bool:
    """Return whether the map of the image is noise, or explains that the label does not match."""
    return result.is_noise("image") or any(note.code == NO_MATCH for note in result.notes)


def _package(name: str) -> Any:
    package = name.partition(".")[0]
    try:
        return import_module(name)
    except ImportError as error:
        remedy = install(_EXTRAS[package]) if package in _EXTRAS else "pip install label-studio-sdk"
        raise Unsupported(f"the backend of Label Studio needs the package {package}: {remedy}") from error
