"""What all audits are asked, and what must hold before and after them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation.audit.checks import LEAST_PAIRS
from nibt.evaluation.maps import named_methods
from nibt.models._loaded import LoadedModel
from nibt.options import Seed, check_facts, parsed
from nibt.registry import MethodSpec


@dataclass(frozen=True)
class AskedAudit:
    """The settings of an audit, which are checked.

    Attributes:
        methods: The methods, without options.
        seed: The seed of all random draws.
        quick: Whether the audit is a quick one.
    """

    methods: list[MethodSpec]
    seed: int
    quick: bool

    @classmethod
    def of(
        cls, methods: str | Sequence[str], data: Mapping[str, Any] | None, seed: object, quick: object
    ) -> "AskedAudit":
        """Check the settings, and what is said of the data."""
        specs = named_methods(methods, "an audit")
        check_facts("data", data)
        if not specs:
            raise BadOption("methods is empty: name at least one method to audit")
        return cls(specs, parsed("seed", seed, Seed), parsed("quick", quick, bool))

    @property
    def names(self) -> list[str]:
        """The names of the methods, with their variants."""
        return [str(spec) for spec in self.methods]


def check_count(count: int, noun: str) -> None:
    """Check that there are enough pairs, or questions."""
    if count < LEAST_PAIRS:
        raise BadInput(
            f"an audit needs at least {LEAST_PAIRS} {noun} (got {count}): with fewer, its intervals are too wide"
        )


def check_unchanged(models: Sequence[LoadedModel], hashes: Sequence[str]) -> None:
    """Check that the weights of models are those that they had before the audit."""
    for model, hash_before in zip(models, hashes, strict=True):
        if model.renewed(anew=True).weights_hash != hash_before:
            raise Unsupported(
                f"the weights of {model.id} changed during the audit: do not train a model while it is audited"
            )
