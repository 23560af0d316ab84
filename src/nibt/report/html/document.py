"""The frame of all pages: one HTML document that loads nothing and forbids it with a policy."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any

from nibt.results.outputs import unsigned

STYLE = """
:root{color-scheme:light dark;--ink:light-dark(#1d1f23,#e9eaec);--faint:light-dark(#5d636d,#a4abb6);
--line:light-dark(#e2e5ea,#363b44);--paper:light-dark(#f7f8fa,#131519);--card:light-dark(#fff,#1d2026);
--accent:light-dark(#2257b0,#8db6ff)}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.2rem 1.4rem 3rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;max-width:75rem}
h1{font-size:1.75rem;line-height:1.25;margin:0 0 1.5rem;overflow-wrap:anywhere}
footer{color:var(--faint);font-size:.85rem;margin-top:2rem}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px}
@media print{:root{color-scheme:light}body{max-width:none;padding:0;background:none}}
"""


def document(
    title: str, body: str, style: str = "", scripts: Sequence[str] = (), request: Mapping[str, Any] | None = None
) -> str:
    """Return a page, whose policy (W3C, level 3) forbids everything but data URIs and its own style and scripts."""
    sheet = STYLE + style
    running = " ".join(_hashed(script) for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hashed(sheet)}; script-src {running}; base-uri 'none'; "
        "form-action 'none'"
    )
    ends = "".join(f"\n<script>{script}</script>" for script in scripts)
    signature = "" if request is None else f'<meta name="generator" content="{unsigned(request)}">\n'
    head = (
        f'<meta charset="utf-8">\n{signature}<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{sheet}</style>"
    )
    text = f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}{ends}\n</body>\n</html>\n'
    return text.encode(errors="backslashreplace").decode()  # a file's name may have bytes that are not text


def _hashed(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
