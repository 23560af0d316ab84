"""The cosine with the mean of several wordings of the caption (prompt ensembling, Radford et al., 2021)."""

from dataclasses import dataclass

from typing_extensions import override

from nibt.errors import BadOption
from nibt.targets.base import Target, TargetContext, cosine
from nibt.types import Embedding, PerExample, There


@dataclass(frozen=True)
class Ensemble(Target):
    """``templates`` hold ``{}`` where the caption stands. A caption itself is explained by its own cosine."""

    templates: tuple[str, ...] = ("{}", "a photo of {}", "a picture of {}", "a close-up photo of {}", "{} in a scene")

    def __post_init__(self) -> None:
        for template in self.templates:
            if template.count("{}") != 1:
                raise BadOption(f"a template must hold {{}} once, where the caption stands (got {template!r})")

    @override
    def __call__(self, here: Embedding, there: There, context: TargetContext) -> PerExample:
        return cosine(here, there)

    def wordings(self, caption: str) -> list[str]:
        """The caption in each of the templates."""
        return [template.format(caption) for template in self.templates]


PLUGIN = Ensemble
