"""What all loaded models have: their name, their weights and how they were loaded, with the digests of both."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import nn

from nibt.models._configuration import configuration_hash
from nibt.models._request import Request
from nibt.models._stamp import renew, weights_stamp
from nibt.models._tower import Tower
from nibt.records import JsonObject
from nibt.types import ModelRecord

AnyModel = TypeVar("AnyModel", bound="LoadedModel")


@dataclass(frozen=True, eq=False, repr=False)
class LoadedModel(ABC):
    """Base class of loaded models."""

    id: str
    family: str
    module: nn.Module
    folder: Path | None = field(default=None, kw_only=True)
    request: Request = field(default_factory=Request, kw_only=True)
    _hashes: dict[str, str] = field(default_factory=dict, repr=False, kw_only=True)

    @property
    @abstractmethod
    def towers(self) -> Sequence[Tower]:
        """The towers."""

    @property
    @abstractmethod
    def item_ndim(self) -> int:
        """The number of dimensions of what a tower computes of one item: 1 for a vector, 2 for several."""

    @property
    def weights_hash(self) -> str:
        """The digest of the weights in their dtype, 16 hexadecimal digits."""
        stamp = weights_stamp(self.module)
        if self._hashes.get("stamp") != stamp:
            self._hashes.update(stamp=stamp, hash=self._hash())
        return self._hashes["hash"]

    def renewed(self: AnyModel, anew: bool = False) -> AnyModel:
        """Return the model, whose weights may have been changed in place since its last use.

        All weights are hashed ``anew`` where the hash identifies results that are stored for long.
        """
        renew(self.module, tuple(tower.root for tower in self.towers))
        if anew:
            self._hashes.clear()
        return self

    @property
    def configuration_hash(self) -> str:
        """The digest of the configuration of the network, image processor and tokenizer, 16 hexadecimal digits."""
        if "configuration" not in self._hashes:
            processors = self.request.image_processor, self.request.text_tokenizer
            self._hashes["configuration"] = configuration_hash(self.module, *processors)
        return self._hashes["configuration"]

    def _hash(self) -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def dtype(self) -> str:
        """The name of the dtype of the weights; a model in half precision computes in float32."""
        return str(self.towers[0].example.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """The name of the device of the model."""
        return str(self.towers[0].example.device)

    def __repr__(self) -> str:
        return "\n".join(
            [
                f"{type(self).__name__} {self.id} ({self.family}), {self.dtype} on {self.device}, weights "
                f"{self.weights_hash}",
                *(f"  {tower.modality:6} {type(tower).__name__} of {tower.depth} blocks" for tower in self.towers),
            ]
        )

    def facts(self) -> ModelRecord:
        """Return the record with the name instead of the path of a local model, for files that are shared."""
        return {**self.record(), "id": Path(self.id).name if Path(self.id).is_dir() else self.id}

    def record(self) -> ModelRecord:
        """Return plain data that identify the model: its name, its weights and how images are prepared."""
        record: JsonObject = {
            "id": self.id,
            "family": self.family,
            "weights_hash": self.weights_hash,
            "configuration_hash": self.configuration_hash,
            "dtype": self.dtype,
            "device": self.device,
            "resize": self.request.resize or "model",
            "image_size": self.request.image_size,
            **self._own_facts(),
            **self.request.facts,
        }
        return cast(ModelRecord, record)

    def _own_facts(self) -> JsonObject:
        """Return what only some models record."""
        return {}
