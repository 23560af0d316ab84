"""Insertion: the area under the score while units are inserted by decreasing attribution score.

A faithful map has a large area.

Range:
    that of the score

Forward passes:
    ``levels``, 10

Use it when:
    You want faithfulness to the model, without ground truth. Report it with ``deletion``.

Avoid it when:
    As for ``deletion``.

Source:
    Petsiuk et al., BMVC 2018 (RISE)
"""

from dataclasses import dataclass

from nibt.metrics._perturbation import CurveMetric


@dataclass(frozen=True)
class Insertion(CurveMetric):
    """The area under the score as a function of the share of inserted units."""

    better = "higher"
    inserted = True


PLUGIN = Insertion
