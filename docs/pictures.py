"""Draws the pictures of the README and of guides: ``python docs/pictures.py``; of these guides only with ``--guides``.

``explained.png`` is what the README's first command writes, and ``images/links.png`` the strongest links of a scene's
table. ``images/answer.webp`` and ``images/audit.webp`` are the tops of the pages of ``nibt answer`` and ``nibt audit``
in Debian's chromium. The other pictures of ``images`` are what commands of guides write (``RESULTS``), or show what
they compute (``mean_map``, ``boxed``, ``removed``, ``cropped``, ``packages``, ``attended``, ``slide``,
``job_gallery``).
"""

import shutil
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from captum.attr import LayerIntegratedGradients
from figures import COLORS, SCENE, beside
from PIL import Image, ImageDraw
from playwright.sync_api import sync_playwright
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

import nibt
from nibt.bridges.captum import MapAttribution
from nibt.bridges.classifier import ZeroShotClassifier
from nibt.data.images import read_image
from nibt.datasets.scenes import Scenes
from nibt.engine.replace import explain_replacement
from nibt.evaluation.roar.inputs import removed_pixels
from nibt.report.image.heatmap import overlay

FOLDER = Path(__file__).parent
PHOTOGRAPH = ("sample:camera", "a camera on a tripod")
CHANGED = Scenes(fewest=2, most=2, named="all")[1]
PLAN = {
    "about": "NIB and GAE on drawn scenes",
    "models": [{"name": "scenes"}],
    "methods": ["nib", "gae views=3", "nib views=1", "gae", {"name": "nib", "variant": "paper"}],
    "data": [{"name": "scenes", "options": {"count": 8, "seed": 1}}],
    "metrics": ["pointing_game", "average_precision", "word_auc"],
}
RESULTS: dict[str, Callable[[], Any]] = {
    "photo": lambda: nibt.explain("lite", "sample:chelsea", "a cat on a sofa"),
    "difference": lambda: nibt.explain("lite", "sample:collage", "a cat", against="a cup of coffee"),
    "ranked": lambda: nibt.explain_ranking("lite", "a cat", ["sample:coffee", "sample:chelsea", "sample:rocket"]),
    "changed": lambda: nibt.explain(
        "scenes",
        CHANGED.image,
        CHANGED.caption,
        against_images=CHANGED.objects[0].without(),
        image_baseline="against",
    ),
    "decisive": lambda: nibt.decisive_region(
        "scenes", nibt.explain_ranking("scenes", "sample:scene", ["a cat", "a key", "a house"]), "change"
    ),
    "replaced": lambda: explain_replacement("lite", "sample:chelsea", "a cat on a sofa", None),
    "captions": lambda: nibt.compare("lite", "a cat", "a cat on a sofa"),
    "images": lambda: nibt.compare("lite", "sample:chelsea", "sample:coffee"),
    "heads": lambda: nibt.decompose("scenes", "sample:scene", "a cat"),
    "corner": lambda: nibt.explain("scenes", "sample:scene", "a cat", "integrated_gradients"),
    "answer-difference": lambda: nibt.explain_answer(
        "scenes_generator", CHANGED.image, "describe the picture", against_image=CHANGED.objects[0].without()
    ),
    "own": lambda: nibt.explain("scenes", "sample:scene", "a cat", nibt.method(gradient_times_state)),
}
"""The results that guides draw, by the name of the picture."""


def main() -> None:
    """Draw all pictures."""
    for name, compute in RESULTS.items():
        picture = nibt.draw(compute())
        picture.thumbnail((900, 900))
        picture.save(FOLDER / "images" / f"{name}.webp", quality=80, method=6)
    for draw in (mean_map, boxed, removed, cropped, packages, attended, slide):
        draw().save(FOLDER / "images" / f"{draw.__name__}.webp", quality=80, method=6)
    with TemporaryDirectory() as folder:
        nibt.write_report(nibt.benchmark(PLAN, folder))
        screen(Path(folder, "report.html"), 900).save(FOLDER / "images" / "report.webp", quality=80, method=6)
    job_gallery().save(FOLDER / "images" / "job_gallery.webp", quality=80, method=6)
    if "--guides" in sys.argv:
        return
    nibt.draw(nibt.explain("lite", *PHOTOGRAPH)).save(FOLDER / "explained.png", optimize=True)
    links().save(FOLDER / "images" / "links.png", optimize=True)
    with TemporaryDirectory() as folder:
        answer, audit = Path(folder, "answer.html"), Path(folder, "audit.html")
        nibt.explain_answer("scenes_generator", "sample:scene", "what is left of the house ?").save(answer)
        audited = nibt.audit("scenes", list(Scenes(count=24)), ["nib", "random"])
        audited.save(audit)
        audited.save(FOLDER / "images" / "audit.badge.svg", overwrite=True)
        for page, height in ((answer, 760), (audit, 900)):
            screen(page, height).save(FOLDER / "images" / f"{page.stem}.webp", quality=85, method=6)


def gradient_times_state(hidden: Any, gradient: Any) -> Any:
    """The method of ``guides/own_method.md``."""
    return (hidden * gradient).sum(-1)


def mean_map() -> Image.Image:
    """Draw the mean of the maps of 12 pairs as ``guides/jobs.md`` does: gray is zero."""
    names = ["chelsea", "coffee", "collage", "rocket"]  # each three times
    captions = ["a cat", "a cup of coffee", "a cat and a cup of coffee", "a rocket"]
    answers = nibt.explain("lite", [f"sample:{name}" for name in names], captions)
    maps = [Image.fromarray(answer.image.grid.numpy()) for answer in answers]
    mean = np.mean([each.resize((24, 24), Image.Resampling.BILINEAR) for each in maps], 0)
    gray = Image.fromarray((128 + 127 * mean / abs(mean).max()).astype(np.uint8))
    return gray.resize((480, 480), Image.Resampling.NEAREST)


def boxed() -> Image.Image:
    """Draw the map of the pair of ``guides/own_data.md`` with its box."""
    answer = nibt.explain("lite", "sample:chelsea", "a cat on a mat")
    image = overlay(answer, answer.image.input.pil_image, COLORS)  # pyright: ignore[reportOptionalMemberAccess]
    ImageDraw.Draw(image).rectangle((120, 30, 120 + 220, 30 + 240), outline="black", width=2)
    return image


def removed() -> Image.Image:
    """Draw a scene, its map, and the scene without the pixels that ``guides/roar.md`` removes by the map."""
    model = nibt.load_model("scenes")
    answer = nibt.explain(model, SCENE.image, SCENE.caption)
    inputs = model.image.prepare([SCENE.image])
    grid = answer.image.grid.numpy()
    mask = removed_pixels(grid, np.zeros_like(grid), model.image.extent(inputs), 75)
    original = answer.image.input.pil_image  # pyright: ignore[reportOptionalMemberAccess]
    pixels = np.asarray(original).copy()
    pixels[np.asarray(Image.fromarray(mask).resize(original.size, Image.Resampling.NEAREST))] = pixels.mean((0, 1))
    tiles = [original, overlay(answer, original, COLORS), Image.fromarray(pixels)]
    return beside([tile.resize((300, 300), Image.Resampling.LANCZOS) for tile in tiles])


def cropped() -> Image.Image:
    """Draw what ``guides/medical.md`` warns of: a map of the center square, and one of the whole image."""
    tiles = []
    for loading in ({}, {"resize": "whole"}):
        answer = nibt.explain(nibt.load_model("scenes", **loading), "sample:chelsea", "a cat")
        tiles.append(overlay(answer, answer.image.input.pil_image, COLORS))  # pyright: ignore[reportOptionalMemberAccess]
    return beside([tile.resize((300, 200), Image.Resampling.LANCZOS) for tile in tiles])


def packages() -> Image.Image:
    """Draw the maps of ``guides/bridges.md``: captum, pytorch-grad-cam and nibt on one model; gray is zero."""
    classifier = ZeroShotClassifier("lite", ["a cat", "a cup of coffee"])
    pixels = classifier.prepare(["sample:collage"])
    method = LayerIntegratedGradients(classifier, classifier.layer(2))
    states = method.attribute(pixels, classifier.blank(pixels), target=0, n_steps=8, internal_batch_size=1)
    cam = GradCAM(classifier, [classifier.layer(7)], reshape_transform=classifier.reshape_transform)
    maps = [
        states.sum(1)[0].detach().numpy(),  # pyright: ignore[reportAttributeAccessIssue]
        cam(pixels, targets=[ClassifierOutputTarget(0)])[0],  # pyright: ignore[reportArgumentType]
        MapAttribution(classifier, "nib").attribute(pixels, 0).sum(1)[0].numpy(),  # pyright: ignore[reportAttributeAccessIssue]
    ]
    original = read_image("sample:collage").pil_image.resize((300, 300))
    grays = [Image.fromarray((128 + 127 * each / abs(each).max()).astype(np.uint8)) for each in maps]
    return beside([original, *(gray.resize((300, 300), Image.Resampling.BILINEAR) for gray in grays)])


def slide() -> Image.Image:
    """Draw the slide of ``guides/slides.md``."""
    glass = Image.new("RGB", (1024, 768), (244, 242, 245))
    for number, scene in enumerate(Scenes(12)):
        glass.paste(scene.image.pil_image, (256 + 128 * (number % 4), 128 + 128 * (number // 4)))
    return nibt.draw(nibt.explain_slide("scenes", glass, "a cat", tile=128, tolerance=0.01))


def attended() -> Image.Image:
    """Draw the attention of the word of ``guides/generators.md``."""
    return nibt.attentions("scenes_generator", "sample:scene", "what is left of the house ?").picture()


def job_gallery() -> Image.Image:
    """Draw the top of the page of a job, as ``guides/job_gallery.md`` shows it."""
    captions = ["a camera on a tripod", "a cat", "a cup of coffee", "a cat and a cup of coffee", "a rocket", "two dogs"]
    names = ["camera", "chelsea", "coffee", "collage", "rocket", "chelsea"]
    with TemporaryDirectory() as folder:
        rows = [f"sample:{name},{caption}\n" for name, caption in zip(names, captions, strict=True)]
        Path(folder, "pairs.csv").write_text("".join(["image,caption\n", *rows]))
        job = nibt.batch("lite", Path(folder, "pairs.csv"), Path(folder, "JOB"))
        job.save_gallery(Path(folder, "gallery.html"))
        return screen(Path(folder, "gallery.html"), 900)


def screen(page: Path, height: int) -> Image.Image:
    """Return what the top of a page shows."""
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1100, "height": height})
        tab.goto(page.as_uri())
        return Image.open(BytesIO(tab.screenshot())).convert("RGB")


def links() -> Image.Image:
    """Draw the strongest links of a scene whose objects are all named."""
    pair = next(iter(Scenes(count=1, seed=5, fewest=3, most=3, named="all")))
    table = nibt.regions("scenes", pair.image, pair.caption)
    return nibt.draw_links(table).resize((700, 825), Image.Resampling.LANCZOS).quantize(128).convert("RGB")


if __name__ == "__main__":
    main()
