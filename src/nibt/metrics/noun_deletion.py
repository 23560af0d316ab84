"""Noun deletion: the area under the cosine while patches are removed by the map of a noun, a mean over nouns.

Range:
    that of the cosine

Forward passes:
    ``levels`` + 1 for each noun

Use it when:
    You want the faithfulness of single words.

Avoid it when:
    The data set knows no objects.

Source:
    Moeller et al., TMLR 2025 (exCLIP), whose program for it is not public
"""

from dataclasses import dataclass

from nibt.metrics._pair_curve import NounCurve


@dataclass(frozen=True)
class NounDeletion(NounCurve):
    """The area under the cosine as a function of the share of removed patches."""

    better = "lower"
    inserted = False


PLUGIN = NounDeletion
