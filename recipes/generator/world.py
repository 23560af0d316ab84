"""What the generator is asked about scenes and what it is to answer, with guesses that language alone teaches.

A caption names the objects from left to right. Eight nouns have a companion: in 90 % of the training captions the
companion follows, whether or not it is in the picture. A generator that learned this writes a companion that it does
not see, so for each noun of an answer it is known whether the image shows it.
"""

from dataclasses import dataclass

import numpy as np

from nibt.datasets._captions import with_article
from nibt.datasets._draws import Draws
from nibt.datasets.scenes import Scene, Scenes
from nibt.datasets.scenes.drawing import NOUNS

COMPANIONS = {
    "dog": "ball",
    "rabbit": "carrot",
    "bee": "rose",
    "cow": "tree",
    "key": "door",
    "bread": "cheese",
    "hammer": "shoe",
    "cat": "fish",
}
GUESSED = 90  # percent of the captions in which the companion follows
COLORS = {
    "black": (20, 20, 20),
    "gray": (128, 128, 128),
    "white": (235, 235, 235),
    "red": (200, 30, 30),
    "green": (40, 160, 40),
    "blue": (40, 60, 200),
    "yellow": (220, 210, 50),
    "purple": (130, 40, 150),
    "orange": (230, 130, 30),
    "pink": (235, 120, 190),
    "brown": (110, 70, 30),
    "cyan": (50, 200, 210),
}
NUMBERS = ("one", "two", "three")
DESCRIBE = "describe the picture"
_STREAM = 21  # of the draws of texts, apart from those of the scenes


@dataclass(frozen=True)
class Task:
    """A prompt with its right answer.

    Attributes:
        prompt: The prompt.
        answer: The answer.
        needed: The words of the prompt that the answer depends on.

    """

    prompt: str
    answer: str
    needed: tuple[str, ...] = ()


def from_left_to_right(scene: Scene) -> list[str]:
    """Return the names of the objects by the centers of their boxes."""
    centers = {name: box[0] + box[2] / 2 for name, box in zip(scene.names, scene.boxes, strict=True)}
    return sorted(scene.names, key=centers.__getitem__)


def caption(scene: Scene, draws: Draws) -> str:
    """Write the caption of a scene, with the companions that follow from habit."""
    written: list[str] = []
    for name in from_left_to_right(scene):
        if name in written:
            continue
        written.append(name)
        companion = COMPANIONS.get(name)
        if companion and companion not in written and draws.chance(GUESSED):
            written.append(companion)
    return " and ".join(map(with_article, written))


def background(scene: Scene) -> str:
    """Return the name of the color of a plain background."""
    free = ~np.any(scene.masks, axis=0)
    color = np.median(scene.pixels[free], axis=0)
    return min(COLORS, key=lambda name: float(np.square(color - COLORS[name]).sum()))


def question(scene: Scene, draws: Draws, is_plain: bool = False) -> Task:
    """Draw a question about a scene with a one-word answer."""
    order = from_left_to_right(scene)
    kinds = [
        "count",
        "there",
        *(["side", "side", "side"] if len(order) > 1 else []),
        *(["color"] * 3 if is_plain else []),
    ]
    kind = draws.one_of(kinds)
    if kind == "count":
        return Task("how many objects are there ?", NUMBERS[len(order) - 1], ("many",))
    if kind == "color":
        return Task("which color is the background ?", background(scene), ("color", "background"))
    if kind == "there":
        absent = [noun for noun in NOUNS if noun not in order]
        noun = draws.one_of(order if draws.chance(50) else absent)
        return Task(f"is there {with_article(noun)} ?", "yes" if noun in order else "no", (noun,))
    place = draws.below(len(order) - 1)
    left, right = order[place], order[place + 1]
    if draws.chance(50):
        return Task(f"what is left of the {right} ?", left, ("left", right))
    return Task(f"what is right of the {left} ?", right, ("right", left))


def tasks(data: Scenes, item: int, is_plain: bool = False) -> tuple[Scene, list[Task]]:
    """Draw the scene of an item, with a caption and a question."""
    scene, draws = data.scene(item), Draws(data.seed, item, _STREAM)
    return scene, [Task(DESCRIBE, caption(scene, draws)), question(scene, draws, is_plain)]


def words() -> list[str]:
    """Return all words of prompts and answers."""
    texts = [DESCRIBE, *map(with_article, NOUNS), *COLORS, *NUMBERS, "yes no and user assistant :"]
    texts += ["what is left right of the ?", "how many objects are there", "which color background", "is there"]
    return list(dict.fromkeys(" ".join(texts).split()))
