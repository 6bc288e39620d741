# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Base of this package's models, which only load complete and unchanged checkpoints.

transformers initializes missing weights randomly with a warning, and such a model still generates audio. Here,
missing, unexpected and non-finite weights, other kinds of dtypes and another configuration than in training are
errors.
"""

import json
import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.core_model_loading import WeightRenaming
from transformers.modeling_utils import load_state_dict

from .adapters_audiolm import AdapterMixin, find_file, redirect_to_base
from .compat_audiolm import check_spreading
from .config_values_audiolm import check_dtype
from .strict_config_audiolm import StrictConfig

_LOADING = threading.RLock()  # transformers changes settings of the whole process while it loads


class AudioLMPreTrainedModel(AdapterMixin, PreTrainedModel):
    """Base of this package's models; see `from_pretrained` and `save_pretrained` of `PreTrainedModel`."""

    config_class = StrictConfig
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = True  # their parts choose what they support
    custom_pipelines: ClassVar[dict[str, Any] | None] = None  # saved where the code of a checkpoint is saved, too

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a checkpoint, or an adapter and its base, in evaluation mode. Threads load one after the other.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): folder of a checkpoint or an adapter, or its name
                on the Hub.
            *model_args: arguments of `PreTrainedModel.from_pretrained`.
            **kwargs: keyword arguments of `PreTrainedModel.from_pretrained`. `dtype` can be a `dict` with the dtypes
                of parts, such as `{"coarse_config": torch.bfloat16}`; `""` stands for the other stages, by default
                in float32.

        Raises:
            ImportError: weights are to be spread over processes, and torch is too old.
            ValueError: the checkpoint is incomplete, `dtype` is invalid, or the base of an adapter is missing or the
                wrong one.
        """
        if any(kwargs.get(name) for name in ("tp_plan", "tp_size", "distributed_config")):
            check_spreading()
        for name in ("dtype", "torch_dtype"):
            check_dtype(name, kwargs.get(name))
        if "torch_dtype" in kwargs:  # the older name
            kwargs.setdefault("dtype", kwargs.pop("torch_dtype"))
        dtypes = kwargs.get("dtype")
        if isinstance(dtypes, dict):
            specs = cls.config_class.sub_configs_defaults or {}
            parts = ["", *(part for part, spec in specs.items() if spec.config_class is not AutoConfig)]
            for name in dtypes.keys() - parts:
                raise ValueError(f"dtype names {name!r}; the parts are {', '.join(parts[1:])}, and '' for all others.")
            kwargs["dtype"] = torch.float32  # so that each part is rounded only once
        source = redirect_to_base(pretrained_model_name_or_path, kwargs)
        try:
            with _LOADING:
                loaded = super().from_pretrained(source, *model_args, **kwargs)
        except json.JSONDecodeError as error:
            raise ValueError(f"A JSON file of {source} is damaged ({error}); save or download it again.") from None
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if isinstance(dtypes, dict):
            _cast_parts(model, dtypes)
        _share_quantization(model)
        return loaded

    @property
    def device(self) -> torch.device:
        """Device that the model computes on, also if its weights are offloaded."""
        hooks = (getattr(module, "_hf_hook", None) for module in self.modules())
        devices = [hook.execution_device for hook in hooks if getattr(hook, "execution_device", None) is not None]
        return torch.device(devices[0]) if devices else super().device

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the model, and in its configuration the values that the weights depend on."""
        self.config.trained_with = self.config.trained_values()
        if self._auto_class is not None and self.custom_pipelines is not None:
            self.config.custom_pipelines = self.custom_pipelines
        try:
            super().save_pretrained(save_directory, *args, **kwargs)
        finally:
            self.config.trained_with = None

    def __getstate__(self) -> dict[str, Any]:
        return vars(_without_capture(self))  # for pickle and copy

    @staticmethod
    def _load_pretrained_model(
        model: Any, state_dict: Any, checkpoint_files: list[str] | None, load_config: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Check the stored configuration and dtypes, then load; transformers also calls this for adapters."""
        source = load_config.pretrained_model_name_or_path
        if args or kwargs:  # transformers mistakes the magnitudes of DoRA for another weight
            load_config.weight_mapping.append(WeightRenaming(r"(lora_magnitude_vector\.[^.]+)$", r"\1.weight"))
        if not (args or kwargs or load_config.ignore_mismatched_sizes or source is None):  # extra ones: of adapters
            model.config.check_trained_values(_stored_values(source, load_config.download_kwargs), str(source))
        if load_config.hf_quantizer is None:
            _require_kinds(model, "state_dict", state_dict or {})
            for file in checkpoint_files or []:
                _require_kinds(model, file, _read_kinds(file))
        frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        flags = [name for name, buffer in model.named_buffers() if buffer.dtype == torch.bool]
        loaded = PreTrainedModel._load_pretrained_model(
            model, state_dict, checkpoint_files, load_config, *args, **kwargs
        )
        for name in frozen:  # transformers puts new parameters in their place
            model.get_parameter(name).requires_grad_(False)
        for name in flags:  # transformers casts them along with parts that stay in float32
            owner, _, own_name = name.rpartition(".")
            setattr(model.get_submodule(owner), own_name, model.get_buffer(name).bool())
        return loaded

    @staticmethod
    def _finalize_model_loading(model: Any, load_config: Any, loading_info: Any) -> Any:
        """Check the loaded weights before transformers initializes missing ones."""
        source = load_config.pretrained_model_name_or_path
        afresh = source is None and loading_info.missing_keys >= set(model.state_dict())  # a caller gave no tensors
        if not afresh:
            _require_all(model, loading_info, load_config)
        loaded = PreTrainedModel._finalize_model_loading(model, load_config, loading_info)
        _require_finite(model, source)
        model.config.trained_with = None
        return loaded

    def adjust_generation_fn(
        self, given: Any, auto_class: bool, task: str | None, source: Any, **options: Any
    ) -> None:
        """Check `generation_config.json`, which transformers ignores if it cannot be read."""
        if given is None and source is not None:
            read_generation_config(source, **options)
        super().adjust_generation_fn(given, auto_class, task, source, **options)


def _cast_parts(model: PreTrainedModel, dtypes: dict[str, str | torch.dtype]) -> None:
    """Convert each part to its dtype."""
    for name, part in model.named_children():
        exact = name in (model._keep_in_fp32_modules or ())
        dtype = dtypes.get(f"{name}_config", torch.float32 if exact else dtypes.get("", torch.float32))
        part.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)
        part.config.dtype = part.dtype


def _share_quantization(model: PreTrainedModel) -> None:
    """Set the quantization flags of the model on its stages, because PEFT reads them from the model it adapts."""
    for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit"):
        if vars(model).get(flag):
            for stage in getattr(model, "stages", {}).values():
                vars(stage)[flag] = True


def _without_capture(module: torch.nn.Module) -> torch.nn.Module:
    """Return a module without the hooks of transformers' first forward pass, which cannot be pickled."""
    copied = module.__class__.__new__(module.__class__)
    # A method of the module among its attributes (a patch that was undone, for instance) would bring the hooks back.
    copied.__dict__ = {
        key: value
        for key, value in vars(module).items()
        if key != "_output_capturing_hooks_installed" and getattr(value, "__self__", None) is not module
    }
    hooks = module._forward_hooks.items()
    copied._forward_hooks = OrderedDict(
        (key, hook) for key, hook in hooks if hook.__module__ != "transformers.utils.output_capturing"
    )
    copied._modules = {name: child and _without_capture(child) for name, child in module._modules.items()}
    return copied


def _stored_values(source: str | os.PathLike, hub_options: Any) -> dict[str, Any]:
    """Return `trained_with` of a checkpoint; older checkpoints do not have it."""
    try:
        fields, _ = PreTrainedConfig.get_config_dict(source, **dict(hub_options))
    except OSError:  # weights alone, with a configuration of the caller's
        return {}
    return fields.get("trained_with") or {}


def _require_kinds(model: PreTrainedModel, source: Any, stored: dict[str, Tensor]) -> None:
    """Check that floats and integers, except flags, are stored as such, because loading would convert them."""
    for name, own in model.state_dict().items():
        if name not in stored or own.dtype == torch.bool:
            continue
        if stored[name].is_floating_point() != own.is_floating_point():
            raise ValueError(f"{source} holds {name} as {stored[name].dtype}, not {own.dtype}; save it as that.")


def _read_kinds(file: str) -> dict[str, Tensor]:
    """Read names, shapes and dtypes of the weights in a file."""
    try:
        return load_state_dict(file, map_location="meta")
    except Exception as error:  # of three formats
        raise ValueError(f"{file} is damaged ({error}); save or download it again.") from None


def _require_all(model: PreTrainedModel, loading_info: Any, load_config: Any) -> None:
    """Check for missing weights, except tied ones, unexpected weights, and wrong shapes."""
    source, quantized = load_config.pretrained_model_name_or_path, load_config.hf_quantizer is not None
    if loading_info.mismatched_keys and not load_config.ignore_mismatched_sizes:
        name, stored, own = sorted(loading_info.mismatched_keys)[0]
        raise RuntimeError(
            f"{source} does not fit its configuration: {name} has shape {tuple(stored)}, not {tuple(own)}."
        )
    model._adjust_missing_and_unexpected_keys(loading_info)
    missing = set(loading_info.missing_keys)
    if quantized:  # what is computed from stored weights counts as missing
        tensors = dict([*model.named_parameters(), *model.named_buffers()])
        missing = {name for name in missing if name not in tensors or tensors[name].device.type == "meta"}
    for target, of in getattr(model, "all_tied_weights_keys", {}).items():
        if not {target, of} <= loading_info.missing_keys:
            missing -= {target, of}
    for names, what in ((missing, "lacks"), (loading_info.unexpected_keys, "has no place for")):
        if names:
            given = source or "state_dict"
            subject, end = (given, "") if what == "lacks" else (type(model).__name__, f", which {given} holds")
            raise ValueError(
                f"{subject} {what} {len(names)} weights, such as {sorted(names)[0]}{end}; load a checkpoint with the "
                "configuration it was saved with."
            )


def _require_finite(model: PreTrainedModel, source: str | None) -> None:
    """Check for NaN and infinity in weights that are not offloaded, quantized or in another process."""
    for name, tensor in model.state_dict().items():
        values = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        plain = type(values) in (Tensor, torch.nn.Parameter) and values.is_floating_point() and not values.is_meta
        if plain and not values.isfinite().all():
            given = source or "state_dict"
            raise ValueError(f"{name} in {given} has values that are NaN or infinite; the checkpoint is damaged.")


def read_generation_config(name_or_path: str | os.PathLike, **options: Any) -> dict[str, Any] | None:
    """Read `generation_config.json` of a folder or of a name on the Hub; `None` if it does not exist."""
    path = find_file(name_or_path, "generation_config.json", options)
    return None if path is None else _read_object(path, "save it again, or delete it")


def read_model_type(folder: str | os.PathLike) -> str:
    """Return the `model_type` of the model in a folder."""
    path, advice = Path(folder) / "config.json", "give a folder that save_pretrained wrote"
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; {advice}.")
    model_type = _read_object(path, advice).get("model_type")
    if not isinstance(model_type, str):
        raise ValueError(f"{path} has model_type {model_type!r}; {advice}.")
    return model_type


def _read_object(path: str | os.PathLike, advice: str) -> dict[str, Any]:
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); {advice}.") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds a {type(fields).__name__}, not an object; {advice}.")
    return fields
