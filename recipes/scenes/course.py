"""What each network is trained on: its batch, its steps, and what is drawn when; the values are in their files."""

from dataclasses import dataclass
from importlib import import_module

from nibt.datasets.scenes import Scenes

SEED, TRAINING, VALIDATION = 7, 1, 2
ARCHITECTURES = {"clip": "network", "siglip": "siglip", "late": "late"}


@dataclass(frozen=True)
class Part:
    """Steps before ``until`` see scenes with these options, and this share of their patches."""

    until: int
    share: float
    scenes: dict


@dataclass(frozen=True)
class Course:
    """A training.

    Attributes:
        parts: What is drawn, part by part; the training ends with the last one.
        batch: Scenes of a step.
        warm_up: Steps in which the rate rises.
        contrast: The step from which captions are contrasted, too.
        cosine: The step at which the cosine of the rate would reach zero.
        fall: Last steps, in which the rate falls in a line.

    """

    parts: tuple[Part, ...]
    batch: int
    warm_up: int
    contrast: int
    cosine: int
    fall: int = 500

    @property
    def steps(self):
        return self.parts[-1].until

    def at(self, step):
        """What is drawn at that step, and the share of the patches that is looked at."""
        part = next(part for part in self.parts if step < part.until)
        return Scenes(seed=TRAINING, **part.scenes), part.share


def architecture(name):
    """The file of a network as a module: ``tokenizer``, ``processor``, ``network``, the embeddings and ``COURSE``."""
    return import_module(ARCHITECTURES[name])
