"""Captions of scenes from templates, with the spans of their nouns."""

from collections.abc import Sequence

from nibt.datasets._draws import Draws
from nibt.datasets._photos import NamingCaption, naming_caption

TEMPLATES = (
    "{}",
    "a photo of {}",
    "a picture of {}",
    "an image of {}",
    "a drawing of {}",
    "there is {}",
    "this is {}",
    "here we see {}",
    "{} in the picture",
    "a scene with {}",
)
JOINTS = ("and", "and", "and", "with", "next to")
WORDS = "a an the and with next to photo of picture image drawing there is this here we see in scene , .".split()


def bare(nouns: Sequence[str]) -> NamingCaption:
    """Return a caption that lists the nouns: ``a cat, a dog and an owl``."""
    return naming_caption(nouns)


def drawn(nouns: Sequence[str], draws: Draws) -> NamingCaption:
    """Draw a caption with the nouns, in their order, in a random template."""
    ending = " ." if draws.chance(25) else ""
    return naming_caption(nouns, draws.one_of(TEMPLATES), draws.one_of(JOINTS), ending, draws.chance(12))
