# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Float32 and evaluation mode for the codec and the semantic tokenizer, independent of dtype, autocast and defaults.

Codes are discrete, so the rounding errors of half precision can change them. The weights and computations of the codec
and the semantic tokenizer are therefore always float32.
"""

import re
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

_MODES = threading.RLock()
# Modules in training mode, by how many calls use them.
_IN_USE: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()


class KeepsFloat32:
    """Keeps the dtype of some weights and buffers in `to`, `half` and similar methods; must precede `nn.Module`."""

    _float32_names = ""  # pattern of the beginning of their names; all by default

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        tensors = [*self.named_parameters(), *self.named_buffers()]  # type: ignore[attr-defined]
        kept = [tensor for name, tensor in tensors if re.match(self._float32_names, name)]
        ids = {id(each) for tensor in kept for each in (tensor, tensor.grad)}

        def move(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            is_exact = id(tensor) in ids and moved.dtype != tensor.dtype
            return tensor.to(moved.device) if is_exact else moved  # moved again, since `moved` may have lost digits

        return super()._apply(move, recurse)  # type: ignore[misc]


def require_one_dtype(model: nn.Module, name: str) -> None:
    """Check that the weights of a model have one dtype; calling `half` of a part would change that."""
    if torch.compiler.is_compiling():
        return
    weights = {weight.dtype: key for key, weight in model.state_dict().items() if weight.is_floating_point()}
    if len(weights) > 1:
        found = ", ".join(f"{key} is {dtype}" for dtype, key in weights.items())
        raise ValueError(f"{name} has weights of several dtypes ({found}); call float() of the part that was changed.")


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set a model and its modules to evaluation mode, and restore their modes after the last thread that uses them."""
    with _MODES:
        modules = [module for module in model.modules() if module.training or module in _IN_USE]
        for module in modules:
            module.training = False
            _IN_USE[module] = _IN_USE.get(module, 0) + 1
    try:
        yield
    finally:
        with _MODES:
            for module in modules:
                _IN_USE[module] -= 1
                if not _IN_USE[module]:
                    del _IN_USE[module]
                    module.training = True


def loaded(model: nn.Module) -> AbstractContextManager[None]:
    """Load offloaded tensors that a model uses outside of its modules' `forward`, where accelerate does not."""
    return nullcontext() if torch.compiler.is_compiling() else _held(model)  # compilers before 2.7 trace no generators


@contextmanager
def _held(model: nn.Module) -> Iterator[None]:
    held = []
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for each in getattr(hook, "hooks", [hook]):
            if getattr(each, "offload", False) and type(module).__module__.partition(".")[0] != "torch":
                each.pre_forward(module)
                each.offload = False  # so that a `forward` meanwhile leaves them in place
                held.append((each, module))
    try:
        yield
    finally:
        for each, module in held:
            each.offload = True
            each.post_forward(module, None)


def require_finite(values: Tensor, what: str) -> None:
    """Check the results of a part for NaN and infinity, which come from such weights."""
    if not (values.is_meta or torch.compiler.is_compiling() or values.isfinite().all()):
        raise ValueError(f"{what} has values that are NaN or infinite, due to its weights; load them again.")


@contextmanager
def finite_parts(model: nn.Module, what: str) -> Iterator[None]:
    """Check the results of the parts of a model for NaN and infinity, also with offloaded weights."""

    def check(part: nn.Module, inputs: Any, outputs: Any) -> None:
        first = outputs if isinstance(outputs, Tensor) else outputs[0]
        require_finite(first, what)

    hooks = [part.register_forward_hook(check) for part in model.children()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def settled(method: Callable) -> Callable:
    """Run a model's method, or each step of the iterator that it returns, in evaluation mode, without autocast.

    There are no gradients, by `no_grad`: steps may be asked for from several threads and modes, and tensors of
    `inference_mode` would fit only one.
    """

    @contextmanager
    def settle(self: Any) -> Iterator[None]:
        autocast = torch.autocast(self.device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), evaluation_mode(self), autocast:
            yield

    def step(self: Any, results: Generator) -> Iterator[Any]:
        while True:
            with settle(self):
                try:
                    result = next(results)
                except StopIteration:
                    return
            yield result

    @wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.device.type == "meta":
            raise ValueError(f"The model is on the device meta, without weights for {method.__name__}; load it.")
        with settle(self):
            results = method(self, *args, **kwargs)
        return step(self, results) if isinstance(results, Generator) else results

    return run
