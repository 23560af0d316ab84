"""Fixtures of the tests of this folder."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page on a free port of this machine, with small limits."""
    with open_page(tmp_path_factory.getbasetemp(), "--limit", "max_queue=10", "--limit", "timeout=60") as address:
        yield address


@contextmanager
def open_page(folder: Path, *options: str) -> Iterator[str]:
    """Serve a page on a free port of this machine inside ``with``, with uploads in a folder, and yield its address."""
    if find_spec("gradio") is None:  # which takes seconds to import, and runs in another process
        pytest.skip("the page needs gradio: pip install -e '.[app]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = "from nibt.cli import main; main()"
    arguments = ["serve", "--port", str(port), *options]
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.Popen([sys.executable, "-c", command, *arguments], stdout=subprocess.DEVNULL, env=environment)
    try:
        for _ in range(600):
            with suppress(httpx.TransportError):
                httpx.get(f"http://127.0.0.1:{port}/").raise_for_status()
                break
            assert process.poll() is None, "nibt serve ended"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
        assert process.poll() is None, "the server runs through all tests"
        process.terminate()
        assert process.wait(30) == 0
        assert list(folder.glob("nibt-serve-*")) == [], "uploaded files are removed"
    finally:
        process.kill()
