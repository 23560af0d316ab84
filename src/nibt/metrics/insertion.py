"""Insertion: the area under the score while units are inserted by decreasing attribution score.

A faithful map has a large area (Petsiuk et al., 2018).
"""

from dataclasses import dataclass

from nibt.metrics._curve import Curve


@dataclass(frozen=True)
class Insertion(Curve):
    """The area under the score as a function of the share of inserted units."""

    better = "higher"
    inserted = True


PLUGIN = Insertion
