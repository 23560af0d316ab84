"""The inputs of both towers of a few pairs."""

from nibt.data.pair import Pair
from nibt.evaluation.roar.inputs import TowerInputs
from nibt.models.base import Model
from nibt.types import Modality


def materials(model: Model, pairs: list[Pair]) -> dict[Modality, TowerInputs]:
    return {
        "image": TowerInputs.of(model.image, [pair.image for pair in pairs]),
        "text": TowerInputs.of(model.text, [pair.caption for pair in pairs]),
    }
