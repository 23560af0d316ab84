"""Tests of ``nibt.app.guide``."""

import pytest
from markupsafe import escape

pytest.importorskip("latex2mathml", reason="needs formulas: pip install -e '.[app]'")

from nibt.app.methods import help_page
from nibt.registry import available, find, summary
from tests.helpers import check_page


def test_help_page_explains_maps_and_all_methods() -> None:
    text = check_page(help_page())
    assert '<section id="reading">' in text
    for name in available("methods"):
        assert f'<h3 id="{name}">{name}</h3>' in text
        assert escape(summary("methods", name)) in text
        assert f"Cost: {escape(find('methods', name).cost)} forward passes" in text
    assert text.count('display="block"') > 25
    assert "$" not in text
    assert "\\" not in text, "a command that latex2mathml does not know"
