"""Pair deletion: the area under the cosine while words and patches are removed by the strongest pairs.

Pairs of a word and a patch come by decreasing score; each takes away its word and its patch. The score is the cosine
of what is visible of both, over the share of all units that are removed.

Range:
    that of the cosine

Forward passes:
    2 x ``levels``, 22

Use it when:
    You want faithfulness of the strongest links, without ground truth.

Avoid it when:
    The caption has few words: they are gone after a few pairs, and the curve shows patches only.

Source:
    Petsiuk et al., BMVC 2018 (RISE), for pairs
"""

from dataclasses import dataclass

from nibt.metrics._pair_curve import PairCurve


@dataclass(frozen=True)
class PairDeletion(PairCurve):
    """The area under the cosine as a function of the share of removed units."""

    better = "lower"
    inserted = False


PLUGIN = PairDeletion
