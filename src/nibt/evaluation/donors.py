"""The other pair whose image, or whose caption, takes the place of that of a pair."""

from collections.abc import Callable, Sequence

from nibt.data.pair import Pair
from nibt.errors import BadInput


def donors(
    pairs: Sequence[Pair],
    of: Callable[[Pair], object],
    resembles: Callable[[Pair, Pair], bool],
    too_few: str,
) -> list[int]:
    """Return for each pair the position of the next one (cyclic) with another item that, if possible, is unlike it.

    Args:
        pairs: The pairs.
        of: Returns the item of a pair, which that of its donor differs from.
        resembles: Whether a pair resembles another one, which then is its donor only if all others do.
        too_few: The message of the error if all items are equal.
    """
    items = [of(pair) for pair in pairs]
    if all(item == items[0] for item in items):
        raise BadInput(too_few)

    places = []
    for index, pair in enumerate(pairs):
        following = [*range(index + 1, len(pairs)), *range(index)]
        candidates = [place for place in following if items[place] != items[index]]
        unlike = (place for place in candidates if not resembles(pair, pairs[place]))
        places.append(next(unlike, candidates[0]))

    return places
