"""Isolation from torch's global modes (default device, mixed precision, inference mode, default dtype) and from hooks.

The public functions of nibt compute inside ``plain_torch``, which turns the first three modes off, so that results
depend on the arguments alone. These modes belong to a thread, so other threads are not affected.

The default dtype belongs to the process and is never changed. nibt creates all tensors with an explicit dtype. The
image processors of other libraries use the default dtype, and run inside ``float32_numbers``.

A user may run the same module in another thread while nibt computes. A hook of PyTorch acts in every thread, so it
would change the user's forward pass, and record its states as those of nibt's. All hooks of nibt are set here.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._device import DeviceContext
from torch.utils.hooks import RemovableHandle

TorchFunction: TypeAlias = Callable[..., Any]
"""A function of PyTorch that calls a mode in its place."""
_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
_FACTORIES = {
    *(
        getattr(torch, name)
        for name in ("arange", "as_tensor", "empty", "eye", "full", "linspace", "ones", "tensor", "zeros")
    )
}
_ARITHMETIC = {
    *(getattr(owner, name) for owner in (torch, Tensor) for name in ("add", "div", "mul", "sub", "true_divide")),
    *(getattr(Tensor, f"__{name}__") for name in ("add", "mul", "sub", "truediv", "radd", "rmul", "rsub", "rtruediv")),
}


_WARNINGS = threading.RLock()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Show no warnings inside.

    The filters of warnings belong to the process. Threads that set and restore them in turns would leave a filter
    behind, so one thread is inside at a time.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def plain_torch() -> Iterator[None]:
    """Turn off the default device, autocast and inference mode in this thread, and restore them afterwards.

    Gradients stay off if the caller is in inference mode. It is a context manager and a decorator.
    """
    modes = _get_current_function_mode_stack()
    with ExitStack() as stack:
        if any(isinstance(mode, DeviceContext) for mode in modes):
            # torch has no public function to suspend the mode; these private ones are those by which it sorts the stack
            stack.callback(_replace_modes, modes)
            _replace_modes([mode for mode in modes if not isinstance(mode, DeviceContext)])

        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))

        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))  # this turns gradients on, which were off
            stack.enter_context(torch.no_grad())
        yield


def _replace_modes(modes: list) -> None:
    """Replace the stack of modes of this thread; the outermost mode comes first."""
    for _ in _get_current_function_mode_stack():
        _pop_mode()
    for mode in modes:
        _push_mode(mode)


@contextmanager
def float32_numbers() -> Iterator[None]:
    """Use float32 in this thread, whatever torch's default dtype is.

    This concerns tensors that are created from Python numbers, and operations on integer tensors and Python numbers.
    """
    if torch.get_default_dtype() == torch.float32:
        yield
        return

    with _Float32Numbers():
        yield


class _Float32Numbers(TorchFunctionMode):
    """A mode that repeats calls with float32 if their result has the default dtype and no argument determines it."""

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor) or out.dtype != torch.get_default_dtype() or kwargs.get("dtype") is not None:
            return out
        if any(isinstance(value, Tensor) and value.is_floating_point() for value in (*args, *kwargs.values())):
            return out
        if func in _FACTORIES and not isinstance(args and args[0], np.ndarray | np.generic):
            return func(*args, **{**kwargs, "dtype": torch.float32})
        if func in _ARITHMETIC:
            return func(*(value.float() if isinstance(value, Tensor) else value for value in args), **kwargs)
        return out


def has_hooks(block: nn.Module) -> bool:
    """Return whether a block or a child of it has hooks or a forward pass of its own, which may change its outputs."""
    for module in (block, *block.children()):
        if module._backward_hooks or module._backward_pre_hooks or "forward" in vars(module):
            return True
        if (module._forward_hooks or module._forward_pre_hooks) and foreign_hooks(module):
            return True
    return False


def backward_hooks_note(module: nn.Module) -> list[str]:
    """Return a note on backward hooks of the user on parts of a model, which act whenever nibt takes gradients."""
    names = [
        name or "the model" for name, part in module.named_modules() if part._backward_hooks or part._backward_pre_hooks
    ]
    if global_hooks._global_backward_hooks or global_hooks._global_backward_pre_hooks:
        names.append("all modules")
    return gradients_note("there are backward hooks on {}", names)


def gradients_note(hooks: str, names: Sequence[str]) -> list[str]:
    """Return a note that hooks may change gradients; none without the names of modules, for which ``hooks`` has {}."""
    if not names:
        return []

    listed = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return [
        f"{hooks.format(listed)}: they may change gradients, and the scores that are computed from them; to explain "
        "the model alone, remove them"
    ]


class TensorHooks(TorchFunctionMode):
    """Records whether hooks are set on tensors inside ``with``, which act on gradients."""

    is_set = False

    def __torch_function__(
        self, func: TorchFunction, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.is_set = self.is_set or func is Tensor.register_hook
        return func(*args, **(kwargs or {}))


def foreign_hooks(module: nn.Module) -> dict[int, Any]:
    """Return the forward hooks of a module, by number, and its forward pass, by -1, if it is not that of its class.

    Left out are hooks of nibt, and of Transformers to record outputs.
    """
    forward = {-1: vars(module).get("forward")} if _replaces_forward(module) else {}
    return forward | {
        number: hook
        for number, hook in (module._forward_pre_hooks | module._forward_hooks).items()
        if not getattr(hook, "of_nibt", False)
        and not str(getattr(hook, "__module__", "")).startswith("transformers.utils")  # None for some builtins
    }


def _replaces_forward(module: nn.Module) -> bool:
    """Return whether the forward pass of a module is not that of its class, compiled or wrapped by a library."""
    forward = vars(module).get("forward")

    # a wrapper of a library computes what it wraps, so the innermost function decides
    while forward is not None:
        function = getattr(forward, "func", forward)  # of a partial, which accelerate makes
        if getattr(getattr(function, "__self__", module), "_parameters", None) is not module._parameters:
            return True  # it is of another module, and not of that from which an uncompiled copy was made

        function = getattr(function, "__func__", function)
        if function is type(module).forward:
            return False

        source = getattr(function, "__globals__", {}).get("__name__", type(function).__module__)
        if source.partition(".")[0] not in ("accelerate", "torch", "transformers"):
            return True

        forward = getattr(forward, "__wrapped__", None)

    return "forward" in vars(module)


def set_hook(
    register: Callable[..., RemovableHandle], hook: Callable[..., object], with_kwargs: bool = False
) -> RemovableHandle:
    """Register a hook that does nothing in other threads; ``with`` removes it at its end."""
    thread = threading.get_ident()

    def act(*arguments: object) -> object:
        # PyTorch omits the keyword arguments if the hook is removed while another thread calls the module
        return hook(*arguments) if threading.get_ident() == thread else None

    # a compiled module traces its hooks, which a warning of get_ident breaks; without the compiler nothing is compiled
    untraced: Any = torch.compiler.disable(act) if "torch._dynamo" in sys.modules else act
    untraced.of_nibt = True  # no change of the model, for other threads
    return register(untraced, with_kwargs=with_kwargs)
