"""Which methods explain the answers of a generator, for the page."""

from collections.abc import Mapping
from types import MappingProxyType

from nibt.app.methods import ForwardTimes, MethodFacts, reason_of, variant_of
from nibt.errors import NibtError
from nibt.generators.answers import Generator
from nibt.generators.explain import resolved_method
from nibt.models._loaded import default_method
from nibt.registry import MethodSpec, available


def generator_facts(
    generator: Generator,
    times: ForwardTimes | None,
    variant: str = "default",
    measured: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, MethodFacts]:
    """Return the facts of all methods for a generator. The time of a method is that of its last explanation."""
    facts: dict[str, MethodFacts] = {}
    for name in available("methods"):
        try:
            resolved_method(MethodSpec(name, variant_of(name, variant)), generator.answers, None)
            facts[name] = MethodFacts(measured.get(name), is_default=name == default_method(generator))
        except NibtError as error:
            facts[name] = MethodFacts(reason=reason_of(name, error))

    return facts
