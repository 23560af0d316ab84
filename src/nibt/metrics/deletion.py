"""Deletion: the area under the score while units are removed by decreasing attribution score.

A faithful map has a small area. Ties are broken by position.

Range:
    that of the score

Forward passes:
    ``levels``, 10

Use it when:
    You want faithfulness to the model, without ground truth.

Avoid it when:
    You can measure with one ``hide`` only: the model sees images that it was never trained on, and a map that finds
    what breaks it wins.

Source:
    Petsiuk et al., BMVC 2018 (RISE)
"""

from dataclasses import dataclass

from nibt.metrics._perturbation import CurveMetric


@dataclass(frozen=True)
class Deletion(CurveMetric):
    """The area under the score as a function of the share of removed units."""

    better = "lower"
    inserted = False


PLUGIN = Deletion
