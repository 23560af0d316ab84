"""Tests of connections to servers: their limits, what they keep open, and what their errors say."""

import threading
from typing import Any

import pytest

from nibt.bridges import connection
from nibt.bridges.connection import Connection
from nibt.errors import BadOption, RequestRefused, ServerFailed
from tests.bridges.loopback import Refusal, Served, listening
from tests.bridges.test_answer_servers import explained, generator_of, serving
from tests.hub import CLOSED


class Numbers(Served):
    """A server that returns the number that it gets; of a negative one, that it refuses it."""

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        if body["number"] < 0:
            raise Refusal(f"negative, at {self.address}")
        return {"number": body["number"], **({"usage": body["usage"]} if "usage" in body else {})}


def number_of(data: Any) -> int:
    return data["number"]


def bodies(*numbers: int, **entries: Any) -> list[dict[str, Any]]:
    return [{"number": number, **entries} for number in numbers]


def test_an_explanation_has_one_client() -> None:
    with serving(delay=0.01) as served:
        explained(generator_of(served, at_once=3))
        assert served.connections <= 3 < len(served.requests)
        assert served.most <= 3


def test_answers_come_as_they_are_finished_and_in_order() -> None:
    with listening(Numbers()) as served:
        server = Connection(served.address, "toy")
        assert server.post("x", bodies(*range(20)), number_of) == list(range(20))
        assert dict(server.answers("x", bodies(5, 6), number_of)) == {0: 5, 1: 6}
        with server.session() as opened:
            assert opened.post("x", bodies(1), number_of) == [1]
            assert opened.sent == server.sent == 23
        assert server.post("x", [], number_of) == []


def test_no_request_is_sent_after_one_has_failed_but_finished_ones_are_yielded() -> None:
    with listening(Numbers(delay=0.02)) as served:
        server = Connection(served.address, "toy", at_once=2)
        answers: list[tuple[int, int]] = []
        with pytest.raises(RequestRefused, match="negative"):
            answers.extend(server.answers("x", bodies(1, -1, *range(50)), number_of))
        assert (0, 1) in answers
        assert len(answers) == len(served.requests) - 1
        assert len(served.requests) < 10


def test_a_failure_ends_the_wait_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    def waited(stopped: threading.Event, seconds: float) -> bool:
        waits.append(seconds)
        return stopped.wait(30)

    monkeypatch.setattr(connection, "paused", waited)
    with listening(Numbers(answers=[(503, {}, "")])) as served:
        with pytest.raises(RequestRefused, match="negative"):
            Connection(served.address, "toy", at_once=2).post("x", bodies(1, -1), number_of)
    assert len(waits) == 1


def test_errors_have_no_address() -> None:
    with listening(Numbers()) as served:
        with pytest.raises(RequestRefused, match=r"the server of 'toy' refuses .*negative, at \[server\]") as error:
            Connection(served.address, "toy").post("x", bodies(-1), number_of)
        assert served.address not in str(error.value)
    with pytest.raises(ServerFailed, match="the server of 'toy' cannot be reached") as error:
        Connection(CLOSED, "toy", tries=1).post("x", bodies(1), number_of)
    assert "127.0.0.1" not in str(error.value)


def test_tokens_are_limited_by_the_largest_request() -> None:
    usage = {"usage": {"prompt_tokens": 30, "completion_tokens": 10}}
    with listening(Numbers()) as served:
        server = Connection(served.address, "toy", tokens=100, at_once=1)
        assert server.post("x", bodies(1, 2, **usage), number_of) == [1, 2]
        assert server.tokens_used == 80
        with pytest.raises(ServerFailed, match=r"limit of 100 tokens .*\(80 are used, .* up to 40\): .*fewer cells$"):
            server.post("x", bodies(3, **usage), number_of)
        assert len(served.requests) == 2

        together = Connection(served.address, "toy", tokens=200, at_once=8)
        together.post("x", bodies(0, **usage), number_of)
        with pytest.raises(ServerFailed, match="limit of 200 tokens"):
            together.post("x", bodies(*range(30), **usage), number_of)
        assert together.tokens_used is not None
        assert together.tokens_used <= 200


def test_tokens_cannot_be_limited_where_they_are_not_counted() -> None:
    with listening(Numbers()) as served:
        server = Connection(served.address, "toy", tokens=100)
        server.post("x", bodies(1), number_of)
        assert server.tokens_used is None
        with pytest.raises(ServerFailed, match=r"does not say how many tokens it reads and writes \(usage\).*requests"):
            server.post("x", bodies(2), number_of)
    with pytest.raises(BadOption, match="tokens must be between 1 and"):
        Connection(CLOSED, "toy", tokens=0)


def test_the_tokens_of_an_explanation_are_checked_before_changed_images_are_sent() -> None:
    with serving() as served:
        whole = explained(generator_of(served))
        used = whole.server["tokens"]
        assert any(f"14 requests, {used:,} tokens" in note for note in whole.warnings)
        before = len(served.requests)
        with pytest.raises(ServerFailed, match=r"take about 174 more tokens, and the limit of \d+ leaves \d+:"):
            explained(generator_of(served, tokens=used - 40))
        assert len(served.requests) == before + 8
        assert explained(generator_of(served, tokens=used + 40)).server["tokens"] == used
