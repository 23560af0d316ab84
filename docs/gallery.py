"""The gallery: small examples, each with its picture. ``python docs/gallery.py [NAME ...]`` draws the pictures.

``docs/generate.py`` writes the page ``gallery.md`` and the links of the reference from ``EXAMPLES``;
``tests/test_documents.py`` runs the code of the page. All examples use embedded models and sample images.
"""

import os
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

FOLDER = Path(__file__).parent / "images" / "gallery"
LARGEST = 15_000
"""The bytes of a picture."""
SIZE = (420, 420)


@dataclass(frozen=True)
class Example:
    """An example: its title, what its picture shows, code that writes ``NAME.png``, and the page with more."""

    title: str
    shows: str
    code: str
    more: str

    @property
    def name(self) -> str:
        """The name of the picture."""
        (name,) = re.findall(r"\"([\w-]+)(?:\.\w+)?\.png\"", self.code)
        return name

    @property
    def anchor(self) -> str:
        """The anchor of the title, on the site and on GitHub."""
        return re.sub(r"[^\w -]", "", self.title.lower()).replace(" ", "-")

    def uses(self, word: str) -> bool:
        """Return whether the code has a word, such as the name of a method or of a function."""
        return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", self.code) is not None


def example(title: str, shows: str, more: str, code: str) -> Example:
    return Example(title, shows, textwrap.dedent(code).strip() + "\n", more)


EXAMPLES: dict[str, list[Example]] = {
    "An image and a caption": [
        example(
            "A photograph",
            "Which parts of the photograph, and which words, raise the similarity (red).",
            "guides/explain.md",
            """
            import nibt

            nibt.explain("lite", "sample:chelsea", "a cat").save("photograph.png")
            """,
        ),
        example(
            "A drawn scene",
            "The object is known in a drawn scene, so the map can be checked: it is on the hamburger.",
            "reference/results/methods.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a hamburger").save("scene.png")
            """,
        ),
        example(
            "A word that is not in the image",
            "The cat raises the similarity, and the word for an object that is not there lowers it (blue).",
            "explanation/reading.md#signs",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat and a rocket").save("absent.png")
            """,
        ),
        example(
            "Two objects in one caption",
            "One map for the whole caption: both named objects share the scores.",
            "guides/explain.md",
            """
            import nibt

            nibt.explain("lite", "sample:collage", "a cat and a cup of coffee").save("two-objects.png")
            """,
        ),
        example(
            "A finer map",
            "Seven views, shifted by fractions of a patch, give more cells per patch than three.",
            "guides/explain.md#finer-maps-and-sums",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", views=7).save("seven-views.png")
            """,
        ),
        example(
            "Scores that add up",
            "With a tolerance, nibt takes steps until the scores add up to the change of the similarity within 1 %.",
            "explanation/reading.md#sums",
            """
            import nibt

            explanation = nibt.explain("scenes", "sample:scene", "a cat", tolerance=0.01)
            path = explanation.image.path
            assert abs(path.gap) < 0.01 * (path.at_input - path.at_baseline)
            explanation.save("tolerance.png")
            """,
        ),
        example(
            "How much a region counts",
            "The scores of each region are scaled to the decrease of the similarity if the region is removed.",
            "explanation/study.md#how-much",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat and a house", amounts="removal").save("amounts.png")
            """,
        ),
        example(
            "A test of one map",
            "Three checks below the map: it must change with the weights and the caption, and mark what counts.",
            "guides/explain.md#can-this-map-be-trusted",
            """
            import nibt

            nibt.check("scenes", "sample:scene", "a cat").save("checked.png")
            """,
        ),
        example(
            "A map that fails",
            "The control `random` fails the checks: its map is the same for every caption.",
            "guides/explain.md#can-this-map-be-trusted",
            """
            import nibt

            nibt.check("scenes", "sample:scene", "a cat", "random").save("failed.png")
            """,
        ),
    ],
    "Other methods": [
        example(
            "GAE with three views",
            "A map from attention weights and their gradients. Its scores have no signs.",
            "reference/methods/gae.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "gae", views=3).save("gae.png")
            """,
        ),
        example(
            "Occlusion",
            "The decrease of the similarity if one cell or one word is removed.",
            "reference/methods/occlusion.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "occlusion").save("occlusion.png")
            """,
        ),
        example(
            "Superpixels",
            "The units are segments of the photograph in place of cells.",
            "reference/methods/index.md#options-of-all-methods",
            """
            import nibt

            explanation = nibt.explain("lite", "sample:collage", "a cat", "occlusion", units="segments", segments=20)
            explanation.save("segments.png")
            """,
        ),
        example(
            "Banzhaf values with errors",
            "Scores from random coalitions; those whose error is as large as the score are pale.",
            "guides/sure.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "banzhaf", budget=256).save("banzhaf.png")
            """,
        ),
        example(
            "Refined units",
            "Coarse blocks are divided where their removal changes the similarity most.",
            "guides/server.md#what-it-costs",
            """
            import nibt

            explanation = nibt.explain("scenes", "sample:scene", "a cat", "shapley", units="refined:24", budget=256)
            explanation.save("refined.png")
            """,
        ),
        example(
            "RISE",
            "The mean of random masks, weighted by the similarity of the masked images.",
            "reference/methods/rise.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "rise", masks=300).save("rise.png")
            """,
        ),
        example(
            "Integrated gradients",
            "Gradients along the path from a blank image to this one, at the input of the model.",
            "reference/methods/integrated_gradients.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "integrated_gradients").save("integrated.png")
            """,
        ),
        example(
            "CLIP Surgery",
            "Each patch is compared with the caption, without gradients.",
            "reference/methods/clip_surgery.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "clip_surgery").save("surgery.png")
            """,
        ),
        example(
            "Grad-CAM",
            "The state of each cell at a late layer times its gradient; negative products count as 0.",
            "reference/methods/grad_cam.md",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a cat", "grad_cam").save("cam.png")
            """,
        ),
        example(
            "The published settings of NIB",
            "`nib:paper` is the method of the paper; nibt's defaults differ.",
            "explanation/study.md#published-and-default",
            """
            import nibt

            nibt.explain("scenes", "sample:scene", "a hamburger", "nib:paper").save("paper.png")
            """,
        ),
        example(
            "Your own method",
            "A function of a hidden state and its gradient is a method.",
            "guides/own_method.md",
            """
            import nibt


            @nibt.method
            def gradient_times_state(hidden, gradient):
                return (hidden * gradient).sum(-1)


            nibt.explain("scenes", "sample:scene", "a cat", gradient_times_state).save("own.png")
            """,
        ),
        example(
            "A model of which only two functions are known",
            "Occlusion needs nothing but the embeddings of changed images and captions.",
            "guides/explain.md#a-function",
            """
            import numpy as np
            import nibt


            def images(pictures):
                return np.array([np.array(picture).mean((0, 1)) for picture in pictures])


            def texts(captions):
                colors = ("red", "green", "blue")
                return np.array([[0.1 + caption.count(color) for color in colors] for caption in captions])


            model = nibt.load_model(images=images, texts=texts, name="three colors")
            nibt.explain(model, "sample:scene", "a red thing", "occlusion").save("function.png")
            """,
        ),
    ],
    "Why this, and not that?": [
        example(
            "One caption against another",
            "Red supports the cat, blue supports the cup of coffee.",
            "guides/contrast.md#two-captions-for-an-image",
            """
            import nibt

            nibt.explain("lite", "sample:collage", "a cat", against="a cup of coffee").save("against-caption.png")
            """,
        ),
        example(
            "One image against another",
            "Both maps on one color scale, and the words that put the first image ahead.",
            "guides/contrast.md#two-images-for-a-caption",
            """
            import nibt

            nibt.explain("lite", "sample:chelsea", "a cat", against_images="sample:coffee").save("against-image.png")
            """,
        ),
        example(
            "Before and after",
            "The other image is the baseline: what did not change has little or no score.",
            "guides/contrast.md#two-versions-of-one-image",
            """
            import nibt
            from nibt.datasets.scenes import Scenes

            pair = Scenes(fewest=2, most=2, named="all")[1]
            without = pair.objects[0].without()
            images = {"against_images": without, "image_baseline": "against"}
            explanation = nibt.explain("scenes", pair.image, pair.caption, **images)
            explanation.save("before-after.png")
            """,
        ),
        example(
            "A ranking of images",
            "The best image for a query, against the second best.",
            "guides/pages.md",
            """
            import nibt

            images = ["sample:coffee", "sample:chelsea", "sample:rocket"]
            nibt.explain_ranking("lite", "a cat", images).save("ranking.png")
            """,
        ),
        example(
            "Zero-shot labels",
            "The best label for an image, against the second best.",
            "guides/contrast.md#several-captions",
            """
            import nibt

            nibt.explain_ranking("scenes", "sample:scene", ["a cat", "a key", "a house"]).save("labels.png")
            """,
        ),
        example(
            "The probability of a class",
            "The target is the softmax over all labels in place of the cosine.",
            "reference/targets.md",
            """
            import nibt

            explanation = nibt.explain("scenes", "sample:scene", "a cat", target="softmax", against=["a dog", "a fox"])
            explanation.save("softmax.png")
            """,
        ),
        example(
            "Two captions that are alike",
            "Which words make two captions similar.",
            "guides/contrast.md#two-captions-or-two-images",
            """
            import nibt

            nibt.compare("lite", "a cat", "a cat on a sofa").save("captions.png")
            """,
        ),
        example(
            "Two images that are alike",
            "Which parts make two images similar.",
            "guides/contrast.md#two-captions-or-two-images",
            """
            import nibt

            nibt.compare("lite", "sample:chelsea", "sample:collage").save("images.png")
            """,
        ),
        example(
            "How little must be removed",
            "Without the outlined part, another label comes first.",
            "guides/decisive.md",
            """
            import nibt

            explanation = nibt.explain_ranking("scenes", "sample:scene", ["a cat", "a key", "a house"])
            nibt.decisive_region("scenes", explanation, "change").save("decisive-change.png")
            """,
        ),
        example(
            "How little is enough",
            "The outlined part alone keeps half of what the image adds.",
            "guides/decisive.md",
            """
            import nibt

            explanation = nibt.explain("scenes", "sample:scene", "a cat")
            nibt.decisive_region("scenes", explanation, "keep").save("decisive-keep.png")
            """,
        ),
    ],
    "Words and regions": [
        example(
            "The region of each word",
            "A map for each noun of the caption.",
            "explanation/regions.md",
            """
            import nibt

            table = nibt.regions("lite", "sample:collage", "a cat and a cup of coffee", words=["cat", "coffee"])
            table.save("regions.png")
            """,
        ),
        example(
            "The strongest links",
            "The largest entries of the table of words and patches, as curves.",
            "explanation/regions.md",
            """
            import nibt

            table = nibt.regions("scenes", "sample:scene", "a house, a cat and a hamburger")
            nibt.draw_links(table).save("links.png")
            """,
        ),
        example(
            "Boxes of a map",
            "The parts of a map above half of its maximum, as boxes.",
            "guides/explain.md#pixels-boxes-and-files",
            """
            import nibt
            from PIL import ImageDraw

            explanation = nibt.explain("scenes", "sample:scene", "a cat")
            image = explanation.image.input.pil_image.copy()
            for part in explanation.regions(threshold=0.5):
                left, top, width, height = part.box
                ImageDraw.Draw(image).rectangle((left, top, left + width, top + height), outline="red", width=2)
            image.save("boxes.png")
            """,
        ),
    ],
    "Models that write text": [
        example(
            "Why a word was written",
            "The word, and the parts of the image from which the model read it.",
            "guides/generators.md",
            """
            import nibt

            nibt.explain_answer("scenes_generator", "sample:scene", "what is left of the house ?").save("answer.png")
            """,
        ),
        example(
            "Why this word and not another",
            "The difference of the logits of two words.",
            "guides/generators.md#your-model",
            """
            import nibt

            question = ("scenes_generator", "sample:scene", "what is left of the house ?")
            nibt.explain_answer(*question, against="cat").save("answer-word.png")
            """,
        ),
        example(
            "Attention of an answer",
            "The attention of each layer, which shows what was read, but not how much it counts.",
            "guides/attention.md",
            """
            import nibt

            attended = nibt.attentions("scenes_generator", "sample:scene", "what is left of the house ?")
            attended.picture(0).save("attention.png")
            """,
        ),
        example(
            "Words by occlusion",
            "A method that needs only probabilities also explains a model behind a server.",
            "guides/server.md",
            """
            import nibt

            question = ("scenes_generator", "sample:scene", "what is left of the house ?")
            nibt.explain_answer(*question, method="occlusion").save("answer-occlusion.png")
            """,
        ),
    ],
    "Inside the model, and files": [
        example(
            "What the heads add",
            "The similarity, split by layer and head.",
            "guides/decompose.md",
            """
            import nibt

            nibt.decompose("scenes", "sample:scene", "a cat").save("heads.png")
            """,
        ),
        example(
            "An outline for print",
            "The outline of the map in colors that most readers with a color deficiency can tell apart.",
            "guides/report.md#a-figure-for-a-paper",
            """
            import nibt

            explanation = nibt.explain("lite", "sample:chelsea", "a cat")
            nibt.save(explanation, "outline.png", style="outline", cmap="orange_purple")
            """,
        ),
        example(
            "Only the map over the photograph",
            "The ending `.overlay.png` leaves out the caption and the scale.",
            "reference/files.md#formats",
            """
            import nibt

            nibt.explain("lite", "sample:coffee", "a cup of coffee").save("only.overlay.png")
            """,
        ),
        example(
            "A mask",
            "The ending `.mask.png` writes the regions of the map in black and white.",
            "reference/files.md#formats",
            """
            import nibt

            nibt.explain("lite", "sample:chelsea", "a cat").save("black-white.mask.png")
            """,
        ),
    ],
}


def every() -> list[Example]:
    return [each for section in EXAMPLES.values() for each in section]


def draw(one: Example) -> Image.Image:
    """Run the code of an example in an empty folder, and return the picture that it writes."""
    here = Path.cwd()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            exec(compile(one.code, one.name, "exec"), {"__name__": "__main__"})
            (path,) = Path(folder).glob("*.png")
            return Image.open(path).convert("RGB")
        finally:
            os.chdir(here)


def small(picture: Image.Image, path: Path) -> None:
    """Save a picture in at most ``LARGEST`` bytes."""
    picture.thumbnail(SIZE, Image.Resampling.LANCZOS)
    for quality in range(80, 20, -10):
        picture.save(path, quality=quality, method=6)
        if path.stat().st_size <= LARGEST:
            return


def page() -> str:
    """Return the page: the pictures, and below them each example with its code."""
    lines = [
        "# Gallery",
        "",
        "Small examples, with the models and images that ship with nibt: each runs as it stands. Click a picture.",
        "`python docs/gallery.py` draws the pictures.",
        "",
    ]
    for section, examples in EXAMPLES.items():
        tiles = "".join(
            f'<a href="#{one.anchor}"><img src="images/gallery/{one.name}.webp" alt="" width="180">'
            f"<br>{one.title}</a>\n"
            for one in examples
        )
        lines += [f"**{section}**", "", f'<p class="gallery">\n{tiles}</p>', ""]
    for section, examples in EXAMPLES.items():
        lines += [f"## {section}", ""]
        for one in examples:
            picture = f"![{one.title}](images/gallery/{one.name}.webp)"
            code = f"```python\n{one.code}```"
            lines += [f"### {one.title}", "", f"{one.shows} [More]({one.more})", "", code, "", picture, ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for one in every():
        if not sys.argv[1:] or one.name in sys.argv[1:]:
            small(draw(one), FOLDER / f"{one.name}.webp")
            print(one.name, flush=True)


if __name__ == "__main__":
    main()
