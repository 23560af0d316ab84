"""The cosine with the mean embedding of several wordings of the caption (Radford et al., 2021)."""

from dataclasses import dataclass

from nibt.errors import BadOption
from nibt.targets.base import Score, Target
from nibt.types import Embedding, PerExample


@dataclass(frozen=True)
class Ensemble(Target):
    """The cosine with the mean embedding of several wordings. The text side is explained by the caption's own cosine.

    Args:
        templates: The wordings, each with ``{}`` in place of the caption.

    """

    averages = True

    templates: tuple[str, ...] = ("{}", "a photo of {}", "a picture of {}", "a close-up photo of {}", "{} in a scene")

    def __post_init__(self) -> None:
        for template in self.templates:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise BadOption(f"a template must contain {{}} exactly once, for the caption (got {template!r:.100})")

    def __call__(self, embedding: Embedding, score: Score) -> PerExample:
        return score.similarity(embedding, score.other)

    def wordings(self, caption: str) -> list[str]:
        return [template.format(caption) for template in self.templates]


PLUGIN = Ensemble
