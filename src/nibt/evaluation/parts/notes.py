"""Notes that parts of images and parts of captions share."""

from collections.abc import Iterator, Sequence

from nibt.results.parts import LEAST_EFFECT, Part
from nibt.results.word_parts import WordPart


def shared_notes(parts: Sequence[Part] | Sequence[WordPart], silent: int, count: int, noun: str) -> Iterator[str]:
    """Yield warnings about parts of images or of captions.

    Args:
        parts: The parts.
        silent: The number of images or captions without a positive score.
        count: The number of all images or captions.
        noun: What they are called.
    """
    if silent:
        yield f"{silent} of {count} {noun} have no positive score, and are in no part"

    unclear = sum(part.verdict == "cannot tell" for part in parts)
    if unclear:
        yield (
            f"cannot tell: {unclear} of {len(parts)} parts may or may not be shortcuts, since the interval of needed "
            f"contains {LEAST_EFFECT:g}: give more {noun}"
        )

    unstable = sum(not part.is_stable for part in parts)
    if unstable:
        yield (
            f"not stable: {unstable} of {len(parts)} parts, since fewer than half of the draws of half of the {noun} "
            "have a matching part"
        )
