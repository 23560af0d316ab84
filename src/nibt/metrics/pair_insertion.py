"""Pair insertion: the area under the cosine while words and patches are inserted by the strongest pairs.

Pairs of a word and a patch come by decreasing score; each brings in its word and its patch. The score is the cosine
of what is visible of both, over the share of all units that are inserted.

Range:
    that of the cosine

Forward passes:
    2 x ``levels``, 22

Use it when:
    You want faithfulness of the strongest links, without ground truth.

Avoid it when:
    The caption has few words: they are in after a few pairs, and the curve shows patches only.

Source:
    Petsiuk et al., BMVC 2018 (RISE), for pairs
"""

from dataclasses import dataclass

from nibt.metrics._pair_curve import PairCurve


@dataclass(frozen=True)
class PairInsertion(PairCurve):
    """The area under the cosine as a function of the share of inserted units."""

    better = "higher"
    inserted = True


PLUGIN = PairInsertion
