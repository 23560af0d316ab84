"""All methods side by side on one scene, and those that apply on a photograph with `lite`: the images of
docs/methods.md.

python recipes/scenes/images.py
"""

from pathlib import Path

import nibt
from nibt.datasets.scenes import Scenes
from nibt.errors import Unsupported
from nibt.report.image.methods import draw_beside

DOCS = Path(__file__).parents[2] / "docs"
SCENE = Scenes(count=8, seed=4, fewest=3, most=3, named="one", smallest=30, backgrounds=("gradient", "texture"))[6]
LAST = ("random", "centre", "ones")
QUICK = {"rise": {"masks": 400}, "shapley": {"budget": 256}}
"""Fewer passes than by default, so that both images take minutes."""


def answers(model, image, caption):
    """What each method says by default, NIB first and beside it the published setting; the controls last."""
    names = [name for name in nibt.available("methods") if name not in ("nib", *LAST)]
    methods = [("nib", "default"), ("nib", "paper"), *((name, "default") for name in (*names, *LAST))]
    answers_by_name = {}
    for name, variant in methods:
        try:
            answer = nibt.explain(model, image, caption, name, variant=variant, seed=0, **QUICK.get(name, {}))
        except Unsupported:  # it needs attention, and this model has none
            continue
        answers_by_name[name if variant == "default" else f"{name}, {variant}"] = answer
    return answers_by_name


def main():
    images = {
        "methods-scene": (nibt.load_model("scenes"), SCENE.image, SCENE.caption),
        "methods-photograph": (nibt.load_model("lite", image_size=384), "sample:chelsea", "a cat with green eyes"),
    }
    for name, (model, image, caption) in images.items():
        draw_beside(answers(model, image, caption)).save(DOCS / f"{name}.png", optimize=True)
        print(name)


if __name__ == "__main__":
    main()
