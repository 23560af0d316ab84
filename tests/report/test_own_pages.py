"""Results in pages of Gradio and Streamlit, by the blocks of the guide."""

import subprocess
import sys

import pytest

import nibt
from tests import documents

PAGE = "docs/guides/serve.md"


def block(library: str) -> str:
    """Return the block of the guide that imports a library."""
    return next(block.text for block in documents.blocks(PAGE) if f"import {library}" in block.text)


def check_frame(library: str, program: str) -> None:
    """Check what a program prints of a page that the block of the guide makes: a frame that isolates a result.

    It runs in a process of its own, since these libraries leave loops of events open.
    """
    pytest.importorskip(library, reason=f"needs {library}: pip install -e '.[dev]'")
    command = [sys.executable, "-c", f"import sys\ntext = sys.stdin.read()\n{program}"]
    html = subprocess.run(command, input=block(library), capture_output=True, text=True, check=True).stdout
    assert html.startswith('<iframe title="nibt" sandbox="allow-scripts" srcdoc=')
    assert "a hamburger" in html


@pytest.mark.slow
def test_gradio_shows_a_result() -> None:
    check_frame("gradio", 'exec(text)\nprint(demo.fn("sample:scene", "a hamburger"))')


@pytest.mark.slow
def test_streamlit_shows_a_result() -> None:
    program = """
from streamlit.testing.v1 import AppTest

app = AppTest.from_string(text, default_timeout=120).run()
assert not app.exception
(first,) = app.get("iframe")
app.text_input[0].set_value("a cat").run()
(second,) = app.get("iframe")
assert second.proto.srcdoc != first.proto.srcdoc
print(first.proto.srcdoc)
"""
    check_frame("streamlit", program)


@pytest.mark.usefixtures("unchecked")
def test_only_results_are_frames() -> None:
    with pytest.raises(nibt.NibtError):
        nibt.to_html("a cat")  # pyright: ignore
