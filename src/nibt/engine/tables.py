"""The words x patches table of one pair, by the kind of its method.

- Late interaction: the map of each word's share of MaxSim, by any method (``nibt.engine.late_tables``).
- Methods that are linear in the target: the product of the vectors of both sides (``nibt.engine.side_vectors``).
- ``fixlip``: a regression over both sides (``nibt.engine.pair_regression``).
- All others: a game of the words of the caption (``nibt.engine.word_games``).
"""

from collections.abc import Iterator

from nibt.core.side import Side
from nibt.data.units import Grid, Words
from nibt.engine.late_tables import late_table
from nibt.engine.pair_regression import regression_table
from nibt.engine.side_vectors import check_amounts, side_vectors
from nibt.engine.spec import ExplanationSpec
from nibt.engine.table_scores import TableScores
from nibt.engine.vectors import PartValues
from nibt.engine.word_games import word_game_table
from nibt.methods.fixlip import FIxLIP


def table_scores(spec: ExplanationSpec, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table of one pair."""
    method = spec.methods["image"]
    check_amounts(method)
    if spec.model.similarity.item_ndim > 1:
        return late_table(spec, image, text, words)
    if isinstance(method, FIxLIP):
        return regression_table(spec, image, text, words)
    if method.linear:
        return _vector_table(spec, image, text, words)
    return word_game_table(spec, image, text, words)


def _vector_table(spec: ExplanationSpec, image: Side, text: Side, words: Words) -> TableScores:
    """Compute the table from the vectors of both sides."""
    of_image = side_vectors(image, spec.methods["image"])  # first, since progress shows the longest loop
    of_text = side_vectors(text, spec.methods["text"])
    of_words = of_text.of_words([word.tokens for word in words.words[0]])
    of_patches = of_image.scores(of_words.values, together=True)
    assert isinstance(of_patches.units, Grid)
    scores, product = of_patches.parts.values.float().cpu(), float(of_image.change @ of_text.change)
    if spec.methods["image"].kind != "path":
        return TableScores(scores, of_patches.units, product)
    sides = {"image": of_patches.parts, "text": of_words}
    notes = _unmet_tolerances(sides, float(scores.sum()), product)
    steps = {side: int(parts.steps.max()) for side, parts in sides.items()}
    return TableScores(scores, of_patches.units, product, steps, tuple(notes))


def _unmet_tolerances(sides: dict[str, PartValues], total: float, product: float) -> Iterator[str]:
    """Yield a warning for each side whose completeness gap is above the tolerance."""
    for name, parts in sides.items():
        if parts.missed.any():
            yield (
                f"the {name} side of the table is above the tolerance after {int(parts.steps.max())} steps: the "
                f"table adds up to {total:.3g} instead of {product:.3g}"
            )
