"""Tests of servers of embeddings, against one on this machine that answers in the shapes that servers document."""

import copy
import json
import logging
import pickle
import time
import traceback
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

import nibt
from nibt.bridges import connection
from nibt.bridges.servers import SHAPES, EmbeddingServer, load_embedding_server
from nibt.errors import BadOption, CannotLoad, ServerFailed
from tests.bridges.loopback import Served, image_of, listening
from tests.hub import CLOSED
from tests.models.test_functions import CAPTION, embed_images, embed_texts, model, picture

KEY = "a-key-that-nobody-sees"


@dataclass
class Embeddings(Served):
    """A server of embeddings."""

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        """Return the data of an answer, as each kind of server documents it."""
        assert body["model"] == "toy"
        if path == "/v2/embed":
            assert body["embedding_types"] == ["float"]
            if body["input_type"] == "image":
                assert len(body["images"]) == 1
                return {"id": "1", "embeddings": {"float": self.of_images(body["images"])}}
            assert body["input_type"] == "search_query"
            return {"id": "1", "embeddings": {"float": self.of_texts(body["texts"])}}

        assert path == "/v1/embeddings"
        assert body["encoding_format"] == "float"
        if "messages" in body:
            ((content,),) = (message["content"] for message in body["messages"])
            assert content["type"] == "image_url"
            vectors = self.of_images([content["image_url"]["url"]])
        elif body.get("modality") == "image":
            vectors = self.of_images(body["input"])
        elif isinstance(body["input"][0], dict) and "image" in body["input"][0]:
            vectors = self.of_images(["data:image/png;base64," + item["image"] for item in body["input"]])
        else:
            items = body["input"]
            vectors = self.of_texts([item["text"] if isinstance(item, dict) else item for item in items])
        rows = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(vectors)]
        return {"object": "list", "data": rows[::-1], "model": "toy", "usage": {}}

    def of_images(self, addresses: list[str]) -> list[list[float]]:
        """Return the vectors of images in data addresses, which must be PNG."""
        images = [image_of(address) for address in addresses]
        gray = [Image.new("RGB", (8, 8), (99, 99, 99))] * len(images)
        return embed_images(images if self.reads_images else gray).tolist()

    def of_texts(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts, which must not be empty."""
        assert all(texts)
        return embed_texts(texts)


def serving(**options: Any) -> AbstractContextManager[Embeddings]:
    return listening(Embeddings(**options))


def url(served: Served, shape: str = "openai") -> str:
    return served.address + ("/v2" if shape == "cohere" else "/v1")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_served_model_has_the_maps_of_its_functions(shape: str) -> None:
    with serving() as served:
        remote = load_embedding_server(url(served, shape), "toy", shape=shape)
        actual = nibt.explain(remote, picture(), CAPTION, "occlusion")
    expected = nibt.explain(model(), picture(), CAPTION, "occlusion")
    assert actual.model["id"] == "toy"
    assert float((actual.grid - expected.grid).abs().max()) < 1e-6
    pairs = zip(actual.words, expected.words, strict=True)
    assert max(abs(one.score - other.score) for one, other in pairs) < 1e-6


def test_requests_are_counted_and_limited() -> None:
    with serving() as served:
        server = EmbeddingServer(url(served), "toy", at_once=3, requests=30)
        server.images([picture()] * 8)
        assert server.sent == len(served.requests) == 8
        server.texts(["a"] * 20)  # 16 in the first request
        assert server.sent == len(served.requests) == 10
        assert 1 <= served.most <= 3
        with pytest.raises(ServerFailed, match="the limit of 30 requests is reached: set requests higher"):
            server.images([picture()] * 21)
        assert server.sent == len(served.requests) == 30


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(connection, "paused", lambda stopped, seconds: bool(waited.append(seconds)))
    with serving(answers=[(429, {"Retry-After": "7"}, ""), (503, {}, "")]) as served:
        server = EmbeddingServer(url(served), "toy")
        assert server.texts(["a red cat"]) == embed_texts(["a red cat"])
        assert waited == [7.0, 1.0]
        served.answers = [(500, {}, "")] * 4
        with pytest.raises(ServerFailed, match="answers with the status 500, 4 times: check it, or try again later"):
            server.texts(["a red cat"])
        assert server.sent == len(served.requests) == 7


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {}, "no"), r"refuses access \(status 401\): name the variable"),
        ((404, {}, '{"error": "no model toy"}'), r"refuses the request \(status 404: .*no model toy"),
        ((307, {"Location": "http://127.0.0.1:9/v1/embeddings"}, ""), "redirects to another address"),
        (
            (200, {}, "<html>a page</html>"),
            r"something else than embeddings .*the shape of requests \(got 'toy' and openai",
        ),
        ((200, {}, '{"data": [{"embedding": ["a"]}]}'), "a vector must be a list of finite numbers"),
        ((200, {}, "null"), "it has no data, a list of objects with embedding"),
        ((200, {}, "[]"), "it has no data, a list of objects with embedding"),
        ((200, {}, '{"data": [{"embedding": [0.0, 0.0]}]}'), "vectors that are not zero"),
        (
            (200, {}, '{"data": [{"embedding": [1e300, 1e300]}]}'),
            "vectors that are not zero, and whose lengths are finite",
        ),
        ((200, {}, '{"data": [{"embedding": [1.0'), "something else than embeddings"),
        ((200, {}, "[" * 200_000), "something else than embeddings"),
        ((200, {}, '{"data": [{"embedding": [1' + "0" * 400 + "]}]}"), "something else than embeddings"),
        ((200, {}, '{"data": [{"embedding": [NaN, 1.0]}]}'), "a vector must be a list of finite numbers"),
        ((200, {}, '{"data": [{"embedding": {"1": 2}}]}'), "a vector must be a list of finite numbers"),
        ((200, {}, '{"data": [{"index": 1, "embedding": [1.0]}]}'), r"index must be each number below 1 once"),
        ((200, {}, " " * 2_000_000), "answers with more than 1,000,000 bytes"),
        ((200, {}, '{"data": []}'), "must return 1 vectors for 1 items"),
        ((200, {}, '{"embeddings": {"float": [[1.0]]}}'), "something else than embeddings"),
    ],
)
def test_other_answers_are_refused(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, dict[str, str], str], message: str
) -> None:
    monkeypatch.setattr("nibt.bridges.connection._LARGEST_ANSWER", 1_000_000)
    with serving(answers=[answer]) as served:
        with pytest.raises(ServerFailed, match=message):
            EmbeddingServer(url(served), "toy").texts(["a"])
        assert len(served.requests) == 1


def test_vectors_of_several_lengths_are_refused() -> None:
    answer = 200, {}, '{"data": [{"embedding": [1.0]}, {"embedding": [1.0, 0.0]}]}'
    with serving(answers=[answer]) as served:
        with pytest.raises(ServerFailed, match=r"must return vectors of one length \(got 1 and 2\): check the name"):
            EmbeddingServer(url(served), "toy").texts(["a", "b"])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((200, {"Content-Encoding": "gzip"}, "no gzip"), "breaks off its answer"),
        ((503, {"Retry-After": "\xb2"}, ""), "answers with the status 503"),  # a digit, but no number
    ],
)
def test_answers_that_cannot_be_read_are_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, dict[str, str], str], message: str
) -> None:
    monkeypatch.setattr(connection, "paused", lambda stopped, seconds: False)
    with serving(answers=[answer] * 2) as served:
        with pytest.raises(ServerFailed, match=f"{message}.*, 2 times"):
            EmbeddingServer(url(served), "toy", tries=2).texts(["a"])


def test_a_server_that_answers_byte_by_byte_fails_in_time() -> None:
    with serving(pause=0.04) as served:
        server = EmbeddingServer(url(served), "toy", tries=1, timeout=0.2)
        started = time.monotonic()
        with pytest.raises(ServerFailed, match="timed out"):
            server.texts(["a"])
        assert time.monotonic() - started < 1.5  # the whole answer takes 2


def test_servers_are_copied() -> None:
    with serving() as served:
        server = copy.deepcopy(EmbeddingServer(url(served), "toy"))
        assert server.texts(["a"]) == pickle.loads(pickle.dumps(server)).texts(["a"])
        assert server.sent == 1


def test_images_of_any_mode_are_sent() -> None:
    with serving() as served:
        server = EmbeddingServer(url(served), "toy")
        assert server.images([picture().convert("L").convert("CMYK")]) == server.images([picture().convert("L")])


def test_an_unreachable_server_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "paused", lambda stopped, seconds: False)
    with pytest.raises(ServerFailed, match=r"cannot be reached, .* \(.*\), 2 times"):
        load_embedding_server(CLOSED + "/v1", "toy", tries=2)


def test_a_server_that_drops_images_is_refused() -> None:
    with serving(reads_images=False) as served:
        with pytest.raises(CannotLoad, match="images must tell its inputs apart"):
            load_embedding_server(url(served), "toy")


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BadOption, match="the environment variable TOY_KEY must have the key"):
        EmbeddingServer(CLOSED, "toy", key_env="TOY_KEY")
    monkeypatch.setenv("TOY_KEY", KEY)
    with serving(answers=[(200, {}, "")] * 0) as served:
        server = EmbeddingServer(url(served), "toy", key_env="TOY_KEY")
        server.texts(["a"])
        assert served.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in repr(server)
        served.answers = [(403, {}, "no")]
        with pytest.raises(ServerFailed, match="check the key in TOY_KEY") as caught:
            server.texts(["a"])
        assert KEY not in str(caught.value)
        remote = load_embedding_server(url(served), "toy", key_env="TOY_KEY")
        explanation = nibt.explain(remote, picture(), CAPTION, "ones")
    assert KEY not in json.dumps(explanation.to_json())
    assert KEY not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        (400, {}, f"wrong header: Bearer {KEY}"),
        (200, {}, f'{{"data": [{{"embedding": ["{KEY}"]}}]}}'),
        (200, {}, f'{{"data": [{{"index": "{KEY}", "embedding": [1.0]}}]}}'),
    ],
)
def test_a_server_that_repeats_the_key_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, answer: tuple[int, dict[str, str], str]
) -> None:
    monkeypatch.setenv("TOY_KEY", KEY)
    with serving(answers=[answer]) as served:
        with pytest.raises(ServerFailed) as caught:
            EmbeddingServer(url(served), "toy", key_env="TOY_KEY").texts(["a"])
    assert KEY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", [f"{KEY}\nX-Other: 1", f"{KEY}\u00e9", f"{KEY}\x07x"])
def test_keys_that_no_header_takes_are_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TOY_KEY", key)
    with pytest.raises(BadOption, match="the key in TOY_KEY must be one line of ASCII characters") as caught:
        EmbeddingServer(CLOSED, "toy", key_env="TOY_KEY")
    assert KEY not in str(caught.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "localhost:8000"}, "url must be an address such as"),
        ({"url": "file:///etc/passwd"}, "url must be an address such as"),
        ({"url": "http://user:secret@host/v1"}, "url must not have a name or a password"),
        ({"url": "http://host\x00/v1"}, "url must be an address such as"),
        ({"url": "http://host/v1?key=secret"}, "url must have nothing after a"),
        ({"shape": "other"}, "shape must be one of openai, infinity, jina, cohere"),
        ({"at_once": 0}, "at_once must be between 1 and 64"),
        ({"requests": 0}, "requests must be between 1"),
        ({"timeout": -1}, "timeout must be above 0"),
        ({"tries": 0}, "tries must be between 1 and 20"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message) as caught:
        EmbeddingServer(**{"url": CLOSED, "name": "toy", **options})
    assert "secret" not in str(caught.value)
