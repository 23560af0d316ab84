"""Deletion and insertion: the area under the score while units are removed or inserted by a map."""

from dataclasses import dataclass

from nibt.metrics._perturbation import CurveMetric


@dataclass(frozen=True)
class Deletion(CurveMetric, name="deletion"):
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

    better = "lower"
    inserted = False


@dataclass(frozen=True)
class Insertion(CurveMetric, name="insertion"):
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

    better = "higher"
    inserted = True
