"""The page's own parts: what it takes, what it refuses, what it forgets, and that a late computation leaves nothing."""

import asyncio
import itertools
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from PIL import Image

import nibt
import tiny
from helpers import Run, count_hooks
from nibt.app.cache import ResultCache
from nibt.app.guard import BODY, BUSY, Guard
from nibt.app.limits import Deadline, Limits, TimeLimitExceeded
from nibt.app.link import Link
from nibt.app.models import ModelCache, SerialExecutor
from nibt.app.render import told, unsupported_list
from nibt.app.request import ExplainRequest, Mode, answered, as_sentence, costs, unsupported
from nibt.app.server import check_host
from nibt.data.images import sample_file
from nibt.errors import BadInput, BadOption, UnknownName, Unsupported
from nibt.models.base import Model
from nibt.registry import available
from nibt.report.html.view import Failure, Panel

LIMITS = Limits()


@pytest.fixture(scope="module")
def scenes() -> Model:
    return nibt.load_model("scenes")


def asked(captions: Any = "a cat", question: Any = "each", methods: Any = ("nib",), **others: Any) -> ExplainRequest:
    told = {"file": sample_file("coffee"), "model": "scenes", "variant": "default", "limits": LIMITS, **others}
    return ExplainRequest.read(captions=captions, question=question, methods=methods, **told)


def test_a_sample_is_known_by_its_bytes() -> None:
    assert asked().image.source == "sample:coffee"


def test_captions_stand_one_a_line() -> None:
    assert asked(" a cat \n\n a dog\n").captions == ("a cat", "a dog")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"captions": " \n "}, "write a caption first"),
        ({"captions": "x" * 100_000}, "100,000 characters"),
        ({"captions": "\n".join("abcdefghijklmno")}, "15 captions"),
        ({"question": "rather"}, "at least two lines"),
        ({"question": "labels"}, "at least two lines"),
        ({"methods": ()}, "at least one method"),
        ({"methods": ("nib",) * 7}, "7 methods"),
        ({"captions": None}, "are texts"),
        ({"methods": "nib"}, "a list of names"),
        ({"methods": (["nib"],)}, "a list of names"),
        ({"question": "why"}, "one of each, rather, labels"),
        ({"variant": "../x"}, "one of default, paper"),
        ({"file": None}, "give an image first"),
        ({"file": Path("gone.png")}, "no longer here"),
    ],
)
def test_what_is_missing_or_too_much_is_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        asked(**fields)


def test_an_unknown_method_is_told() -> None:
    with pytest.raises(UnknownName, match="nibb"):
        asked(methods=("nibb",))


@pytest.mark.parametrize("size", [(20_000, 10_000), (10_000, 6_000)])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    bomb = tmp_path / "bomb.png"
    Image.new("1", size).save(bomb)
    began = time.process_time()
    with pytest.raises(BadInput, match="pixels"):
        asked(file=bomb)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<svg onload=alert(1)>", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_picture_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(BadInput):
        asked(file=tmp_path / "x.png")


def test_the_page_says_what_nibt_explain_says(scenes: Model) -> None:
    question = asked("a cat\na dog", methods=("nib", "grad_cam"))
    first, second, last = answered(question, scenes)
    assert [len(panels) for panels in (first, second, last)] == [2, 4, 4]
    assert question.steps == 3
    for panel, (method, caption) in zip(
        last, [(m, c) for m in ("nib", "grad_cam") for c in ("a cat", "a dog")], strict=True
    ):
        alone = nibt.explain(scenes, "sample:coffee", caption, method)
        assert torch.allclose(panel.answer.grid, alone.grid, atol=1e-5)  # pyright: ignore
        assert (panel.table is not None) == (method == "nib")
    table = nibt.explain_interactions(scenes, "sample:coffee", "a cat")
    assert last[0].table is not None
    assert torch.equal(last[0].table.scores, table.scores)


def test_one_caption_rather_than_another_and_labels(scenes: Model) -> None:
    (panels,) = answered(asked("a cup\na cat", "rather"), scenes)
    alone = nibt.explain(scenes, "sample:coffee", "a cup", target="difference", against=["a cat"])
    assert panels[0].answer.score["value"] == pytest.approx(alone.score["value"], abs=1e-6)  # pyright: ignore
    (panels,) = answered(asked("a cup\na cat\na dog", "labels"), scenes)
    ranking = panels[0].answer.ranking  # pyright: ignore
    best = nibt.rank(scenes, "sample:coffee", ["a cup", "a cat", "a dog"])
    assert [label.label for label in ranking] == [label.label for label in best]


@pytest.mark.parametrize("after", [3, 60, 300])
def test_a_late_computation_ends_and_leaves_nothing(scenes: Model, after: int) -> None:
    before = nibt.explain(scenes, "sample:coffee", "a cat").grid
    ticks = itertools.count()
    (outcome,) = list(answered(asked(), scenes, lambda step: Deadline(float(after), lambda: float(next(ticks)))))[-1]
    told = outcome.message if isinstance(outcome, Failure) else outcome.problem
    assert "takes longer" in told
    assert count_hooks(scenes.module) == 0
    assert torch.equal(nibt.explain(scenes, "sample:coffee", "a cat").grid, before)


def test_a_computation_in_time_has_the_same_bits(scenes: Model) -> None:
    with Deadline(time.monotonic() + 600):
        *_, watched = answered(asked(), scenes)
    *_, free = answered(asked(), scenes)
    assert torch.equal(watched[0].answer.grid, free[0].answer.grid)  # pyright: ignore
    assert torch.equal(watched[0].table.scores, free[0].table.scores)  # pyright: ignore


def late(*steps: int) -> Any:
    """A limit under which these steps are late from the start."""
    return lambda step: Deadline(-1.0 if step in steps else float("inf"), clock=lambda: 0.0)


def test_each_method_has_its_own_outcome_in_its_place(scenes: Model) -> None:
    question = asked(methods=("nib", "occlusion", "grad_cam"))
    stages = list(answered(question, scenes, late(1)))
    assert [len(stage) for stage in stages] == [1, 2, 3, 3]
    for earlier, later in itertools.pairwise(stages[:-1]):
        assert later[: len(earlier)] == earlier, "what is finished stays as it is"
    nib, occlusion, grad_cam = stages[-1]
    assert isinstance(nib, Panel)
    assert isinstance(grad_cam, Panel)
    assert nib.table is not None
    assert isinstance(occlusion, Failure)
    assert occlusion.title == "occlusion"
    assert "takes longer" in occlusion.message


def test_an_answer_stays_when_its_table_fails(scenes: Model) -> None:
    first, last = answered(asked(), scenes, late(1))
    assert isinstance(last[0], Panel)
    assert last[0].answer is first[0].answer  # pyright: ignore
    assert last[0].table is None
    assert "takes longer" in last[0].problem


def test_the_page_keeps_what_is_finished(scenes: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the visitor sees after each step: nothing that was there is gone, whatever fails later, and why ever."""
    own = nibt.app.request._answers

    def failing(question: ExplainRequest, model: Model, method: str) -> Any:
        if method == "occlusion":
            raise TimeLimitExceeded("this takes longer than it may")
        if method == "rise":
            raise RuntimeError("not enough memory: secret detail")
        return own(question, model, method)

    monkeypatch.setattr("nibt.app.request._answers", failing)
    shelf, recent = ModelCache(["scenes"], load=lambda name: scenes), ResultCache(60.0)
    fields = [sample_file("coffee"), "a cat", "each", ["nib", "occlusion", "rise", "grad_cam"], "scenes", "default"]
    views = list(told(shelf, LIMITS, recent, fields, lambda done, of, what: None))
    assert len(views) == 5
    assert all("nib: a cat</h2>" in view for view in views)
    headings = ["nib: a cat</h2>", "occlusion</h2>", "rise</h2>", "grad_cam: a cat</h2>"]
    places = [views[-1].index(heading) for heading in headings]
    assert places == sorted(places)
    assert "This takes longer than it may." in views[-1]
    assert "RuntimeError" in views[-1]
    assert "secret detail" not in views[-1]
    assert "Save as" in views[-1]
    fields[3] = ["occlusion"]
    (alone,) = told(shelf, LIMITS, recent, fields, lambda done, of, what: None)
    assert 'role="alert"' in alone
    assert "nibt-view" not in alone
    assert "Save as" not in alone


def test_a_slow_method_leaves_time_for_the_others() -> None:
    ends = [replace(LIMITS, seconds=60.0).deadline(100.0, later) for later in (3, 2, 1, 0)]
    assert ends == pytest.approx([142, 148, 154, 160])


def test_methods_that_a_model_cannot_run_are_known_with_their_reasons(scenes: Model) -> None:
    assert unsupported(scenes) == {}
    model, image = tiny.model("convnext"), tiny.image()
    reasons = unsupported(model)
    for method in available("methods"):
        if method in reasons:
            with pytest.raises(Unsupported, match=reasons[method][:20]):
                nibt.explain(model, image, "a cat", method)
        else:
            assert "attention" not in nibt.registry.find("methods", method).needs
    assert "needs attention" in reasons["gae"]
    (first, second) = list(answered(asked(methods=("nib", "gae")), model))[-1]
    assert isinstance(first, Panel)
    assert isinstance(second, Failure)
    assert "Needs attention" in second.message or "needs attention" in second.message


def test_the_list_of_what_a_model_cannot_run_loads_nothing(scenes: Model) -> None:
    loads: list[str] = []
    models = {"a": scenes, "b": tiny.model("convnext")}
    shelf = ModelCache(["a"], ["b"], load=lambda name: loads.append(name) or models[name])  # pyright: ignore
    assert [unsupported_list(shelf, name) for name in ("a", "b", "c", None, ["a"])] == [""] * 5
    assert loads == ["a"]
    shelf.model("b")
    assert 'data-method="gae"' in unsupported_list(shelf, "b")


def test_models_are_loaded_when_asked_for_and_the_last_stay(scenes: Model) -> None:
    loaded: list[str] = []
    shelf = ModelCache(["a"], ["b", "c"], most=1, load=lambda name: loaded.append(name) or replace(scenes, id=name))  # pyright: ignore
    assert loaded == ["a"]
    assert [shelf.model(name).id for name in "abbacab"] == list("abbacab")
    assert loaded == ["a", "b", "c", "b"]
    with pytest.raises(UnknownName, match="Known models: a, b, c"):
        shelf.model("../d")


def test_all_turns_are_taken_in_one_thread_one_after_the_other() -> None:
    turns, running, most, threads = SerialExecutor(), 0, 0, set[int]()

    def parts() -> Iterator[int]:
        nonlocal running, most
        for number in range(5):
            running += 1
            most = max(most, running)
            threads.add(threading.get_ident())
            time.sleep(0.005)
            running -= 1
            yield number

    with ThreadPoolExecutor(8) as visitors:
        found = list(visitors.map(lambda _: list(turns.each(parts())), range(8)))
    assert found == [list(range(5))] * 8
    assert (most, len(threads)) == (1, 1)


def test_what_goes_wrong_in_a_turn_is_told_to_who_asked() -> None:
    def parts() -> Iterator[int]:
        yield 1
        raise BadInput("no")

    found = SerialExecutor().each(parts())
    assert next(found) == 1
    with pytest.raises(BadInput, match="no"):
        next(found)


def test_answers_are_files_for_a_while(scenes: Model) -> None:
    now = [0.0]
    recent = ResultCache(kept=10.0, most=2, clock=lambda: now[0])
    *_, panels = answered(asked(), scenes)
    token = recent.keep(panels)
    explanation, table = json.loads(recent.file(token, "json") or b"")
    assert explanation["text"]["caption"] == table["caption"] == "a cat"
    assert Image.open(BytesIO(recent.file(token, "png") or b"")).width > 200
    assert b"Content-Security-Policy" in (recent.file(token, "html") or b"")
    assert recent.file(token, "exe") is None
    assert recent.file("x", "png") is None
    recent.keep(panels), recent.keep(panels)
    assert recent.file(token, "png") is None, "the oldest makes room"
    last = recent.keep(panels)
    now[0] = 11
    assert recent.file(last, "png") is None, "and time is up"


def test_a_link_says_what_was_asked() -> None:
    question = asked("a cup & <b>\nü", "rather", ("nib", "grad_cam"))
    link = Link.to(question)
    assert link is not None
    assert Link.read(dict(httpx.QueryParams(link.query)), ["lite", "scenes"], 100) == link


def test_pictures_of_a_visitor_have_no_link(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "mine.png")
    assert Link.to(asked(file=tmp_path / "mine.png")) is None


@pytest.mark.parametrize(
    "change",
    [
        {"image": "../x"},
        {"model": "other"},
        {"methods": "nib,x"},
        {"variant": "y"},
        {"question": "z"},
        {"captions": " "},
    ],
)
def test_a_link_to_what_there_is_not_asks_for_nothing(change: dict[str, str]) -> None:
    good = {"image": "coffee", "captions": "a cup"}
    assert Link.read(good, ["lite"], 100) is not None
    assert Link.read({**good, **change}, ["lite"], 100) is None


def test_every_method_tells_its_cost_and_every_message_is_a_sentence() -> None:
    assert costs()[0][0] == "nib"
    assert all(cost for _, cost in costs())
    assert as_sentence(BadInput("give it (really)")) == "Give it (really)"
    assert as_sentence(BadInput("give it")) == "Give it."


@pytest.fixture
def guarded(tmp_path: Path) -> SimpleNamespace:
    """A guarded page that remembers which requests came through."""
    seen: list[tuple[str, bytes]] = []

    async def page(scope: Any, receive: Any, send: Any) -> None:
        message = await receive() if scope["method"] == "POST" else {}
        seen.append((scope["path"], message.get("body", b"")))
        full = b"full" in message.get("body", b"")
        await send(
            {"type": "http.response.start", "status": 503 if full else 200, "headers": [(b"content-length", b"2")]}
        )
        await send({"type": "http.response.body", "body": b"ok"})

    guard = Guard(page, tmp_path, upload=1000, stored=5000, hosts=("localhost",))
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
        ("POST", JOIN, {"content": b"{"}, 403),
        ("POST", JOIN, {"content": b"[" * 100_000}, 403),
        ("POST", JOIN, {"content": b" " * (BODY + 1)}, 413),
        ("POST", JOIN, {"json": {}, "headers": {"origin": "http://evil.example"}}, 403),
        ("POST", "/gradio_api/upload", {"content": b" " * 20_000}, 413),
    ],
)
def test_the_guard_refuses(
    guarded: SimpleNamespace, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    folder = str(guarded.folder)
    if "json" in options:
        options = {**options, "json": json.loads(json.dumps(options["json"]).replace("FOLDER", folder))}
    answer = guarded.request(method, path.replace("FOLDER", folder), **options)
    assert answer.status_code == status
    assert guarded.seen == []
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_the_guard_lets_the_page_s_own_requests_through(guarded: SimpleNamespace) -> None:
    upload = str(guarded.folder / "a" / "x.png")
    body = {"data": [{"path": upload, "url": f"http://localhost:7860/gradio_api/file={upload}"}, "a caption"]}
    own = {"origin": "http://localhost:7860"}
    assert guarded.request("POST", JOIN, json=body, headers=own).status_code == 200
    assert json.loads(guarded.seen[-1][1]) == body, "the body arrives whole"
    for path in ("/", "/config", "/assets/x.js", f"/gradio_api/file={upload}", "/answer/token.png"):
        answer = guarded.request("GET", path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert guarded.request("POST", "/gradio_api/upload", content=b"x" * 500).status_code == 200


def test_a_full_queue_is_told_in_plain_words(guarded: SimpleNamespace) -> None:
    answer = guarded.request("POST", JOIN, json={"data": ["full"]})
    assert (answer.status_code, answer.json()["detail"]) == (503, BUSY)


def test_a_request_that_never_ends_is_ended(guarded: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nibt.app.guard.PATIENCE", 0.1)

    async def slow() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    assert guarded.request("POST", JOIN, content=slow()).status_code == 408


def test_a_full_disk_is_not_filled_further(guarded: SimpleNamespace) -> None:
    (guarded.folder / "much").write_bytes(b"0" * 6000)
    assert guarded.request("POST", "/gradio_api/upload", content=b"x").status_code == 503


def test_only_this_machine_may_ask_unless_that_is_meant(run: Run) -> None:
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(BadOption, match="--public"):
            check_host(host, public=False)
        check_host(host, public=True)
    for host in ("127.0.0.1", "::1", "localhost"):
        check_host(host, public=False)
    code, _, told = run("serve", "--host", "0.0.0.0")
    assert (code, "--public" in told, "Traceback" in told) == (2, True, False)


def test_a_port_that_is_taken_is_told(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, told = run("serve", "--port", taken.getsockname()[1])
    assert (code, "choose another with --port" in told, "Traceback" in told) == (2, True, False)


@pytest.mark.parametrize(
    "option", ["--timeout=0", "--max-queue=-1", "--max-upload-mb=0", "--megapixels=0", "--port=99999"]
)
def test_limits_out_of_range_are_told(run: Run, option: str) -> None:
    code, _, told = run("serve", option)
    assert (code, "must" in told) == (2, True)


def test_questions_are_those_of_the_page() -> None:
    assert [question.value for question in Mode] == ["each", "rather", "labels"]
