"""Noun deletion: the area under the cosine while patches are removed by the map of a noun, as a mean over nouns.

Range:
    that of the cosine

Forward passes:
    ``levels`` + 1 for each noun, and a caption

Use it when:
    You want the faithfulness of what one word says of the image; ``caption="noun"`` asks about this word alone.

Avoid it when:
    No objects are known: nouns are those with an object.

Source:
    Möller et al., TMLR 2025 (exCLIP), whose program for it is not public
"""

from dataclasses import dataclass

from nibt.metrics._noun_curve import NounCurve


@dataclass(frozen=True)
class NounDeletion(NounCurve):
    """The area under the cosine as a function of the share of removed patches."""

    better = "lower"
    inserted = False


PLUGIN = NounDeletion
