"""Noun insertion: the area under the cosine while patches are inserted by the map of a noun.

It is ``noun_deletion`` with patches that come in.

Range:
    that of the cosine

Forward passes:
    as of ``noun_deletion``

Use it when:
    As for ``noun_deletion``. Report both.

Avoid it when:
    As for ``noun_deletion``.

Source:
    as of ``noun_deletion``
"""

from dataclasses import dataclass

from nibt.metrics._pair_curve import NounCurve


@dataclass(frozen=True)
class NounInsertion(NounCurve):
    """The area under the cosine as a function of the share of inserted patches."""

    better = "higher"
    inserted = True


PLUGIN = NounInsertion
