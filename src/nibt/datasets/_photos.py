"""Captions "a photo of ..." for data sets without captions."""

from nibt.data.pair import Span


def photo_of(*names: str) -> tuple[str, tuple[Span, ...]]:
    """Return the caption that names objects with their articles, and the span of each name.

    >>> photo_of("owl", "cat")
    ('a photo of an owl and a cat', ((14, 17), (24, 27)))
    """
    text, spans = "a photo of ", []
    for place, name in enumerate(names):
        if place:
            text += " and " if place == len(names) - 1 else ", "
        text += f"{'an' if name[:1].lower() in set('aeiou') else 'a'} {name}"
        spans.append((len(text) - len(name), len(text)))
    return text, tuple(spans)
