"""PEFT adapters: their base model, and the model that has them in its layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from torch import nn

from nibt.errors import CannotLoad, install
from nibt.models._saved import ADAPTERS, json_object

_bases: ContextVar[tuple[str, ...]] = ContextVar("_bases", default=())
"""The base models that adapters name, while they are loaded."""


@contextmanager
def base_model(name: str, folder: Path) -> Iterator[str]:
    """Return the name or the folder of the base model of adapters, which is loaded inside ``with``."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise CannotLoad(f"{name!r} holds PEFT adapters, which need peft: {install('models')}") from error

    settings = json_object(folder / ADAPTERS)
    base = settings.get("base_model_name_or_path")
    revision = settings.get("revision")
    if not base or not isinstance(base, str):
        raise CannotLoad(f"the adapters in {name!r} lack base_model_name_or_path: add it to {ADAPTERS}")

    if (folder / base).is_dir():  # a base model in the folder of its adapters
        base = str(folder / base)
    elif revision and not Path(base).is_dir() and "@" not in base:
        base = f"{base}@{revision}"

    bases = _bases.get()
    if base in bases:
        raise CannotLoad(
            f"the adapters in {name!r} are their own base model ({base!r}): set base_model_name_or_path to the model "
            "on which they were trained"
        )

    token = _bases.set((*bases, base))
    try:
        yield base
    finally:
        _bases.reset(token)


def adapted(name: str, folder: Path, module: nn.Module) -> nn.Module:
    """Return a base model with the adapters of a folder, all of whose weights have a place in it; PEFT only warns."""
    from peft import PeftModel, get_peft_model_state_dict, load_peft_weights

    peft_model: Any = PeftModel.from_pretrained(module, str(folder))
    places = {*get_peft_model_state_dict(peft_model, save_embedding_layers=False), *peft_model.state_dict()}
    lost = set(load_peft_weights(str(folder), device="cpu")) - places
    if lost:
        raise CannotLoad(
            f"{len(lost)} weights of the adapters in {name!r} have no place in the base model, such as "
            f"{min(lost)!r}: set base_model_name_or_path to the model on which they were trained"
        )
    return within_layers(peft_model).eval()


def within_layers(peft_model: Any) -> Any:
    """Return the model that has adapters in its layers; other adapters, such as prompt tuning, would be lost."""
    for settings in peft_model.peft_config.values():
        if settings.is_prompt_learning or getattr(settings, "alora_invocation_tokens", None):
            raise CannotLoad(
                f"adapters of the kind {type(settings).__name__.removesuffix('Config')} change the input of a model, "
                "not its layers, and nibt explains layers: use adapters such as LoRA"
            )
    return peft_model.get_base_model()
