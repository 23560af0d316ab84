"""Image encoders that are a sequence of stages with feature maps: the stages, and what follows the last one."""

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nibt.errors import Unsupported
from nibt.torch_modes import set_hook


def stages_of(trunk: nn.Module) -> list[nn.Module]:
    """Return the stages of a trunk of timm or torchvision, or of a ResNet of OpenCLIP."""
    for name in ("stages", "blocks", "layers", "trunk_output"):
        if hasattr(trunk, name):
            return list(getattr(trunk, name))
    if hasattr(trunk, "features"):  # of torchvision, the first of which takes pixels
        return list(trunk.features)[1:]  # pyright: ignore

    for name in ("layer{}", "s{}"):  # ResNets, RegNets
        stages = [getattr(trunk, name.format(i), None) for i in range(1, 5)]
        if all(stages):
            return stages  # pyright: ignore
    raise Unsupported(
        f"the stages of {type(trunk).__name__} are not supported; use a timm trunk with stages or blocks, a ResNet "
        "or a RegNet"
    )


def find_tail(
    trunk: nn.Module, stages: list[nn.Module], size: tuple[int, int], channels_last: bool = False
) -> tuple[list[nn.Module], int]:
    """Return the parts that a trunk calls after its last stage, in order, and the stride of the last feature map.

    It runs once on an image of a size.
    """
    example = next(trunk.parameters())
    height, width = size
    maps: list[Any] = []  # copies, since later parts may change a map in place
    tail: list[nn.Module] = []

    def before(module: nn.Module, _: object) -> None:
        if maps:  # the last stage has run
            tail.append(module)

    def after(module: nn.Module, _: object, out: Any) -> None:
        maps.append(out.clone() if isinstance(out, Tensor) else out)

    with ExitStack() as hooks, torch.no_grad():
        for child in trunk.children():
            hooks.enter_context(set_hook(child.register_forward_pre_hook, before))
        hooks.enter_context(set_hook(stages[-1].register_forward_hook, after))
        count = 3 * height * width
        example_image = torch.linspace(-2, 2, count, device=example.device, dtype=torch.float32).to(example.dtype)
        output = trunk(example_image.view(1, 3, height, width))

    if len(maps) != 1 or not isinstance(maps[0], Tensor) or maps[0].ndim != 4:
        raise Unsupported(f"the stages of {type(trunk).__name__} do not give feature maps of (channel, row, column)")

    if not _gives(tail, maps[0], output):
        raise Unsupported(
            f"{type(trunk).__name__} computes more after its last stage than its parts do, so nibt cannot cut it: use "
            "a ViT, Swin, ConvNeXt, ResNet or EfficientNet"
        )

    # Where height is no multiple of the stride, height / rows is not the stride; timm's trunks know it.
    feature_info = getattr(trunk, "feature_info", None)
    rows = maps[0].shape[1 if channels_last else -2]
    return tail, feature_info[-1]["reduction"] if feature_info else round(height / rows)


def _gives(tail: list[nn.Module], stream: Tensor, output: object) -> bool:
    """Return whether the parts after the last stage compute the output of the whole trunk."""
    try:
        with torch.no_grad():
            computed = run_tail(tail, stream)
    except (RuntimeError, TypeError):  # of a part that takes something else
        return False
    return isinstance(output, Tensor) and computed.shape == output.shape and torch.allclose(computed, output, 1e-3)


def run_tail(tail: list[nn.Module], stream: Tensor) -> Tensor:
    """Run the parts after the last stage; torchvision flattens the pooled map before a linear map by a function."""
    for module in tail:
        if stream.ndim == 4 and _takes_rows(module):
            stream = stream.flatten(1)
        stream = module(stream)
    return stream


def _takes_rows(module: nn.Module) -> bool:
    """Return whether a part takes rows in place of a feature map: a linear map, or a sequence that begins with one."""
    if not isinstance(module, nn.Sequential):
        return isinstance(module, nn.Linear)
    first = next((part for part in module if not isinstance(part, nn.Dropout)), None)
    return isinstance(first, nn.Linear)
