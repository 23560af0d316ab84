"""Pair insertion: the area under the cosine while words and patches are inserted by the strongest pairs.

It is computed as ``pair_deletion``, but each pair brings in its word and its patch.

Range:
    that of the cosine

Forward passes:
    2 x ``levels``, 22

Use it when:
    As for ``pair_deletion``. Report both.

Avoid it when:
    As for ``pair_deletion``.

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
