"""Many visitors at once on the page of nibt serve: how many answers came, whether each is right, what memory did.

OMP_NUM_THREADS=1 python tests/app/load.py [--users 50] [--duration 120]

A page is started on this machine. Each visitor uploads a sample, requests an explanation, waits for it and starts
again, with the requests of the browser. Every answer is compared with that of the same data without a page.
"""

import argparse
import asyncio
import contextlib
import json
import platform
import random
import re
import secrets
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import httpx

import nibt
from nibt.app.limits import Limits
from nibt.app.request import ExplainRequest, explain_steps
from nibt.data.images import sample_file, samples
from nibt.report.html import view

CAPTIONS = ("a cat", "a cup of coffee", "a cat and a cup", "a rocket\na dog")
MODEL = "scenes"  # the faster of the embedded models: more answers to compare


def data_of(html):
    """The data of the view: maps, words, tables."""
    return json.loads(re.search(r'class="nibt-data">(.*?)</script>', html, re.S)[1])


def expected():
    """The answers without a page."""
    model, panels_by_pair = nibt.load_model(MODEL), {}
    for name in samples():
        for captions in CAPTIONS:
            values = sample_file(name), captions, "each", ["nib"], MODEL, "default"
            request = ExplainRequest.of_values(values, Limits())
            *_, panels = explain_steps(request, model)
            panels_by_pair[name, captions] = data_of(view.fragment(panels))["panels"]
    return panels_by_pair


class Visitor:
    """One browser."""

    def __init__(self, client, function, seed):
        self.client, self.function, self.draw = client, function, random.Random(seed)

    async def explain(self):
        """One explanation: its outcome, its HTML, and its pair."""
        name, captions = self.draw.choice(samples()), self.draw.choice(CAPTIONS)
        session, file = secrets.token_hex(8), sample_file(name)
        upload = await self.client.post("/gradio_api/upload", files={"files": (file.name, file.read_bytes())})
        if upload.status_code != 200:
            return f"upload refused ({upload.status_code})", None, None
        image = {"path": upload.json()[0], "meta": {"_type": "gradio.FileData"}, "orig_name": file.name}
        body = {
            "data": [0, image, captions, "each", ["nib"], MODEL, "default", None],
            "fn_index": self.function,
            "session_hash": session,
            "event_data": None,
            "trigger_id": None,
        }
        joined = await self.client.post("/gradio_api/queue/join", json=body)
        if joined.status_code == 503:
            await asyncio.sleep(1)  # as a visitor would
            return "rejected (the queue is full)", None, None
        if joined.status_code != 200:
            return f"refused ({joined.status_code})", None, None
        async with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": session}) as stream:
            async for line in stream.aiter_lines():
                message = json.loads(line[5:]) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    return "answered", message["output"]["data"][0] if message["success"] else "", (name, captions)
        return "broke off", None, None


async def visits(address, users, seconds, right):
    """All visitors until the time is up: what came, seconds each, and how many answers were not as expected."""
    came, took, wrong = Counter(), [], 0
    async with httpx.AsyncClient(
        base_url=address, timeout=120, limits=httpx.Limits(max_connections=2 * users)
    ) as client:
        functions = (await client.get("/config")).json()["dependencies"]
        number = next(one["id"] for one in functions if one["api_name"] == "explain")
        end = time.monotonic() + seconds

        async def stay(visitor):
            nonlocal wrong
            while time.monotonic() < end:
                began = time.monotonic()
                what, html, pair = await visitor.explain()
                came[what] += 1
                if what == "answered":
                    took.append(time.monotonic() - began)
                    wrong += not same(data_of(html)["panels"] if "nibt-data" in html else None, right[pair])

        await asyncio.gather(*(stay(Visitor(client, number, seed)) for seed in range(users)))
    return came, took, wrong


def same(actual, right):
    """Equal to 1e-5 in every number, and in all else."""
    if isinstance(right, dict):
        return (
            isinstance(actual, dict) and actual.keys() == right.keys() and all(same(actual[k], right[k]) for k in right)
        )
    if isinstance(right, list):
        return isinstance(actual, list) and len(actual) == len(right) and all(map(same, actual, right))
    if isinstance(right, float):
        return isinstance(actual, float) and abs(actual - right) <= 1e-5
    return actual == right


def memory(process):
    """Resident megabytes of the page."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


@contextlib.contextmanager
def served(waiting=20):
    """A page on a free port: its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from nibt.cli import main; main()",
        "serve",
        "--port",
        port,
        "--limit",
        f"max_queue={waiting}",
    ]
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            with contextlib.suppress(httpx.TransportError):
                httpx.get(address).raise_for_status()
                break
            if process.poll() is not None:
                sys.exit("nibt serve ended before it answered")
            time.sleep(0.2)
        yield address, process
    finally:
        process.terminate()
        process.wait()


async def measured(address, process, options, right):
    """The visits, with the page's memory every few seconds."""
    used = []

    async def watch():
        while True:
            used.append(memory(process))
            await asyncio.sleep(5)

    watching = asyncio.create_task(watch())
    outcome = await visits(address, options.users, options.duration, right)
    watching.cancel()
    return outcome, used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--duration", type=int, default=120, help="seconds of load")
    options = parser.parse_args()
    right = expected()
    with served() as (address, process):
        asyncio.run(visits(address, 4, 15, right))  # until it is warm
        (came, took, wrong), used = asyncio.run(measured(address, process, options, right))
        alive = process.poll() is None
    half = len(used) // 2
    print(f"{options.users} visitors, {options.duration} s: " + ", ".join(f"{n} {what}" for what, n in came.items()))
    print(f"seconds to an answer: median {statistics.median(took):.1f}, most {max(took):.1f}")
    print(f"answers that differ from those without a page: {wrong}; the page {'lives' if alive else 'is dead'}")
    print(
        f"memory, MB: {used[0]:.0f} at first, {used[-1]:.0f} at last, {max(used):.0f} at most; in the first half "
        f"{statistics.mean(used[:half]):.0f}, in the second {statistics.mean(used[half:]):.0f}"
    )
    print("every 20 s: " + ", ".join(f"{one:.0f}" for one in used[::4]))
    print(
        f"{time.strftime('%-d %B %Y')}, {platform.machine()}, Python {platform.python_version()}, "
        f"torch {version('torch')}, gradio {version('gradio')}"
    )
    sys.exit(0 if alive and not wrong and took else 1)


if __name__ == "__main__":
    main()
