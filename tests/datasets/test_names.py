"""Tests of ``nibt.datasets._captions``."""

import pytest

from nibt.datasets._captions import named_spans


@pytest.mark.parametrize(
    ("caption", "actual"),
    [
        ("A PERSON, people; persons' and a personal man", {"person": ["PERSON", "people", "persons"]}),
        ("hot dogs, a hot\ndog, dogs", {"hot dog": ["hot dogs", "hot\ndog"], "dog": ["dogs"]}),
        (
            "knives on couches by buses with two teddy bears",
            {"knife": ["knives"], "couch": ["couches"], "bus": ["buses"], "teddy bear": ["teddy bears"]},
        ),
        ("a dog-walker underdog", {}),
        ("cherries but no cherry-pie", {"cherry": ["cherries"]}),
        ("", {}),
    ],
)
def test_named_spans_finds_categories_and_plurals(caption: str, actual: dict[str, list[str]]) -> None:
    known = ["person", "dog", "hot dog", "knife", "couch", "bus", "bear", "teddy bear", "cherry"]
    spans = named_spans(caption, known)
    assert {name: [caption[slice(*span)] for span in places] for name, places in spans.items()} == actual
    assert named_spans(caption, []) == {}
