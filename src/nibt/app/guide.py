"""The help page of ``nibt serve``: how a map is read, and what each method computes, from the docstrings of methods."""

import re
from html import escape

from latex2mathml.converter import convert

from nibt.app.methods import CATEGORIES, by_category
from nibt.registry import documentation, find
from nibt.report.html.document import document

STYLE = """
main{max-width:46rem}
h2{margin:2rem 0 .4rem;font-size:1.3rem}
h3{margin:1.4rem 0 .3rem;font-size:1.05rem;scroll-margin-top:1rem}
p{margin:.4rem 0}
math{font-family:"STIX Two Math","Cambria Math","Latin Modern Math","DejaVu Math TeX Gyre",math}
.formula{margin:.8rem 0;padding:.4rem 0;overflow:auto hidden}
.facts{color:var(--faint);font-size:.9rem}
a{color:var(--accent)}
"""
_READING = (
    (
        "Colors",
        "Red parts of the image, and red words, raise the similarity that the model computes. Blue ones lower it. "
        "Some methods do not say in which direction a part moves the similarity: they use one color, and a stronger "
        "color means more. A map has its own scale, which is below it, so colors of different maps cannot be compared.",
    ),
    (
        "The region of a word",
        "Click a word to see where the model sees it. This map has its own scale, too. It shows what the word and each "
        "part of the image add to the similarity together, so its sum can differ from the score of the word.",
    ),
    (
        "No match",
        "Every caption gets a map, even one that has nothing to do with the image. If the similarity is negative, or "
        "clearly below that of a blank caption or a blank image, the page says so above the map. The map then "
        "explains a low similarity. A pair without this warning may still be no match.",
    ),
    (
        "Words with low scores",
        "The score of a word is what it adds in this caption. Words such as “a” and “of” should have scores near 0. "
        "If they do not, trust the map less.",
    ),
    (
        "Answers",
        "A generator writes an answer to a prompt. The map of a word shows what it took from the image, in nats of its "
        "log-probability, and the table what it took from the prompt and from the words before it. A word that is as "
        "probable with other images was not read from this one.",
    ),
    (
        "Details",
        "Under Details are the sums of the map and of your selection, the completeness gap (the share of the change of "
        "the similarity that the scores do not account for), and all options.",
    ),
    (
        "What a map is not",
        "A map shows what moves the similarity of this model. It is neither a segmentation nor a statement about the "
        "world. Compare several methods and a control before you rely on it: if the map of a control looks as good, "
        "the map shows little about the model.",
    ),
)


def help_page() -> str:
    """Return the help page as an HTML document that loads nothing."""
    reading = "".join(f"<h3>{title}</h3><p>{text}</p>" for title, text in _READING)
    methods = "".join(
        f"<h3>{escape(CATEGORIES[category])}</h3>{''.join(map(_method, names))}"
        for category, names in by_category().items()
    )
    body = (
        f'<main><h1>How to read a map</h1><section id="reading">{reading}</section>'
        f'<h2 id="methods">Methods</h2>{methods}</main>'
    )
    return document("nibt: how to read a map", body, STYLE)


def _method(name: str) -> str:
    method = find("methods", name)
    text = documentation("methods", name)
    sign = "signed scores" if method.signed else "scores without a sign"
    return (
        f'<h3 id="{escape(name)}">{escape(name)}</h3>{"".join(map(_paragraph, text.split(chr(10) * 2)))}'
        f'<p class="facts">Cost: {escape(method.cost)} forward passes of each tower; {sign}.</p>'
    )


def _paragraph(text: str) -> str:
    """Return a paragraph of a docstring, with its formulas as MathML: LaTeX between ``$$``, or ``$`` in a sentence."""
    if text.startswith("$$"):
        return f'<div class="formula">{convert(text.strip("$"), display="block")}</div>'
    parts = re.split(r"\$(.+?)\$", text.replace("``", ""), flags=re.S)
    return f"<p>{''.join(convert(part) if place % 2 else escape(part) for place, part in enumerate(parts))}</p>"
