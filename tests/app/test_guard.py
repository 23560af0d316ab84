"""Tests of ``nibt.app.guard``."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from nibt.app.guard import MAX_BODY, NOT_OF_THE_PAGE, QUEUE_FULL, Guard


@pytest.fixture
def guarded(tmp_path: Path) -> SimpleNamespace:
    """A guarded page that records the requests that pass."""
    seen: list[tuple[str, bytes]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        message = await receive() if scope["method"] == "POST" else {}
        seen.append((scope["path"], message.get("body", b"")))
        full = b"full" in message.get("body", b"")
        if b"raise" in message.get("body", b""):
            raise KeyError("fn_index")
        if b"fail" in message.get("body", b""):
            await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})
            raise KeyError("fn_index")
        await send(
            {"type": "http.response.start", "status": 503 if full else 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"ok"})

    guard = Guard(page, tmp_path, max_upload=1000, max_stored=5000, hosts=("localhost",))
    transport = httpx.ASGITransport(guard)

    def request(method: str, path: str, **options: Any) -> httpx.Response:
        async def once() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost:7860") as client:
                return await client.request(method, path, **options)

        return asyncio.run(once())

    return SimpleNamespace(request=request, seen=seen, folder=tmp_path)


JOIN = "/gradio_api/queue/join"


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/", {"headers": {"host": "evil.example"}}, 421),
        ("GET", "/", {"headers": {"host": "[::1"}}, 421),
        ("GET", "/", {"headers": {"origin": "http://[::1"}}, 403),
        ("POST", JOIN, {"json": {}, "headers": {"origin": "http://[::1"}}, 403),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/", {}, 404),
        ("GET", "/gradio_api/file=/etc/passwd", {}, 403),
        ("GET", "/gradio_api/file=http://127.0.0.1/", {}, 403),
        ("GET", "/gradio_api/file=FOLDER/../../etc/passwd", {}, 403),
        ("GET", "/gradio_api/info", {}, 404),
        ("GET", "/monitoring", {}, 404),
        ("POST", "/gradio_api/call/explain", {"json": {}}, 405),
        ("POST", "/gradio_api/run/explain", {"json": {}}, 405),
        ("POST", "/gradio_api/run/predict", {"json": {"data": [{"path": "/etc/passwd"}]}}, 403),
        ("DELETE", "/", {}, 405),
        ("POST", JOIN, {"json": {"data": [{"path": "/etc/passwd"}]}}, 403),
        ("POST", JOIN, {"json": {"data": [{"a": [{"path": "http://127.0.0.1/x.png"}]}]}}, 403),
        ("POST", JOIN, {"json": {"data": [{"path": "FOLDER/x.png", "url": "http://127.0.0.1/x.png"}]}}, 403),
        ("POST", JOIN, {"json": {"data": [{"path": None}]}}, 403),
        ("POST", JOIN, {"content": b"{"}, 400),
        ("POST", JOIN, {"content": b"[" * 100_000}, 400),
        ("POST", JOIN, {"content": b" " * (MAX_BODY + 1)}, 413),
        ("POST", JOIN, {"json": {}, "headers": {"origin": "http://evil.example"}}, 403),
        ("POST", "/gradio_api/upload", {"content": b" " * 20_000}, 413),
    ],
)
def test_guard_rejects_foreign_requests(
    guarded: SimpleNamespace, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    folder = str(guarded.folder)
    if "json" in options:
        options = {**options, "json": json.loads(json.dumps(options["json"]).replace("FOLDER", folder))}
    answer = guarded.request(method, path.replace("FOLDER", folder), **options)
    assert answer.status_code == status
    assert guarded.seen == []
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_guard_passes_the_requests_of_the_page(guarded: SimpleNamespace) -> None:
    upload = str(guarded.folder / "a" / "x.png")
    body = {"data": [{"path": upload, "url": f"http://localhost:7860/gradio_api/file={upload}"}, "a caption"]}
    own = {"origin": "http://localhost:7860"}
    assert guarded.request("POST", JOIN, json=body, headers=own).status_code == 200
    assert json.loads(guarded.seen[-1][1]) == body, "the body is passed unchanged"
    for path in ("/", "/config", "/assets/x.js", f"/gradio_api/file={upload}", "/answer/token.png"):
        answer = guarded.request("GET", path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert guarded.request("POST", "/gradio_api/upload", content=b"x" * 500).status_code == 200


@pytest.mark.parametrize("what", ["fail", "raise"])
def test_guard_answers_for_a_page_that_fails(guarded: SimpleNamespace, what: str) -> None:
    """What the page makes of a request that it does not send, such as one with a bad fn_index, is no error of ours."""
    answer = guarded.request("POST", JOIN, json={"data": [what]})
    assert (answer.status_code, answer.json()["detail"]) == (400, NOT_OF_THE_PAGE)
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_guard_reports_a_full_queue(guarded: SimpleNamespace) -> None:
    answer = guarded.request("POST", JOIN, json={"data": ["full"]})
    assert (answer.status_code, answer.json()["detail"]) == (503, QUEUE_FULL)


def test_guard_ends_a_slow_request(guarded: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nibt.app.guard.RECEIVE_TIMEOUT", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    assert guarded.request("POST", JOIN, content=slow()).status_code == 408


def test_guard_rejects_uploads_to_a_full_disk(guarded: SimpleNamespace) -> None:
    (guarded.folder / "much").write_bytes(b"0" * 6000)
    assert guarded.request("POST", "/gradio_api/upload", content=b"x").status_code == 503


def test_guard_ends_streams_when_it_is_closed(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    scope = {"type": "http", "method": "GET", "path": "/gradio_api/heartbeat/x", "headers": []}

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ALIVE", "more_body": True})
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    async def stopped() -> None:
        guard = Guard(endless, tmp_path, max_upload=1000)
        response = asyncio.create_task(guard(scope, asyncio.Event().wait, send))  # type: ignore[arg-type]
        while len(sent) < 2:
            await asyncio.sleep(0)
        guard.close()
        await asyncio.wait_for(response, 30)

    asyncio.run(stopped())
    assert sent[-1] == {"type": "http.response.body"}
    assert len(sent) == 3
