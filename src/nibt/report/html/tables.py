"""Sortable tables of numbers that can be searched; ``STYLE`` and ``SCRIPT`` belong in the page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from nibt.io import read_text

SCRIPT = read_text(files("nibt.report.html") / "tables.js")
STYLE = """
h2{font-size:1.2rem;line-height:1.3;margin:2.6rem 0 .5rem;overflow-wrap:anywhere}
p{max-width:60rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
.sortable td,.sortable th{padding:.35rem .8rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
.sortable td:first-child,.sortable th:first-child{text-align:left;padding-left:.2rem}
.sortable thead th{color:var(--faint);font-weight:500;vertical-align:bottom}
.sortable thead button{font:inherit;color:inherit;background:none;border:0;padding:0;cursor:pointer}
.sortable thead button:hover{color:var(--accent)}
.sortable [aria-sort]{color:var(--ink)}
.sortable [aria-sort=ascending] button::after{content:" \\2191"}
.sortable [aria-sort=descending] button::after{content:" \\2193"}
.sortable tbody tr:hover{background:light-dark(#eaf0fb,#232b3a)}
.search{display:block;font-size:.86rem;color:var(--faint);margin:.4rem 0}
.search input{font:inherit;color:var(--ink);background:var(--card);border:1px solid var(--line);border-radius:.4rem;
padding:.2rem .5rem;margin-left:.5rem}
.note{color:var(--faint);font-size:.86rem}
img{max-width:100%;background:#fff;border-radius:.4rem}
@media print{.search{display:none}tr,img{break-inside:avoid}h2{break-after:avoid}}
"""


def data_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of texts, whose first column names the rows."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    inner = f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    return f'<div class="wide"><table class="sortable">{inner}</table></div>'
