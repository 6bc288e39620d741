# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Adapters of a whole AudioLM: each stage may have some, and the whole loads, sets, merges and saves them together.

`from_pretrained` of an adapter folder (see `adapter_folder_audiolm`) loads its base and puts the adapters on the
stages, so that pipelines and the Auto classes take it like any other checkpoint. Comes in before `modeling_audiolm`,
whose model inherits [`AudioLMAdapterMixin`].
"""

import copy
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from logging import LogRecord
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from .adapter_folder_audiolm import (
    HUB_OPTIONS,
    AdapterInfo,
    find_base,
    fingerprint,
    read_adapter_info,
    stage_parts,
)
from .stage_adapters_audiolm import (
    base_name,
    has_adapter_layers,
    import_peft,
    require_layer_adapter,
    unload_adapters,
)


class AudioLMAdapterMixin:
    """Adapters for a model of several stages, by the names that transformers uses for one: load, switch, merge, save.

    Put before `PreTrainedModel` among the bases of a model with the property `stages`. A stage that an adapter does
    not change runs without any while that adapter is set.
    """

    name_or_path: str

    @property
    def stages(self) -> dict[str, PreTrainedModel]:
        """The stages by name."""
        raise NotImplementedError("A model with adapters names its stages.")

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike | None, *model_args: Any, **kwargs: Any
    ) -> Any:
        """Load a checkpoint, or an adapter folder together with the checkpoint it belongs to.

        Args:
            pretrained_model_name_or_path (`str` or `os.PathLike`): checkpoint or adapter folder, or its name on the
                Hub.
            *model_args: as in `PreTrainedModel.from_pretrained`.
            **kwargs: as in `PreTrainedModel.from_pretrained`; with an adapter folder they are for its base, but for
                `revision`.

        Returns:
            The model in evaluation mode, with the adapter set.

        Raises:
            ValueError: the adapter's base is not found, or is not the one that the adapter was trained on.
        """
        load = super().from_pretrained  # type: ignore[misc]
        options = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        source = pretrained_model_name_or_path
        info = None if source is None or "subfolder" in kwargs else read_adapter_info(source, **options)
        if source is None or info is None:
            loaded = load(source, *model_args, **kwargs)
            _share_quantization(loaded[0] if isinstance(loaded, tuple) else loaded)
            return loaded
        kwargs.pop("revision", None)  # of the adapter
        try:
            loaded = load(find_base(info.base, source), *model_args, **kwargs)
        except RuntimeError as error:  # weights of other shapes than config.json beside the adapter says
            raise ValueError(
                f"The checkpoint {info.base!r} is not the one that the adapter {source} was trained on, its sizes are "
                "others; train the adapter again."
            ) from error
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        _share_quantization(model)
        model.load_adapter(source, adapter_kwargs=options)
        return loaded

    def load_adapter(
        self, peft_model_id: str | os.PathLike | None = None, adapter_name: str | None = None, **kwargs: Any
    ) -> None:
        """Put the adapters of a folder on the stages, and set them.

        Args:
            peft_model_id (`str` or `os.PathLike`): adapter folder, or its name on the Hub. One without
                `audiolm_adapter.json` is taken for a single PEFT adapter of the whole model.
            adapter_name (`str`, *optional*, defaults to `"default"`): what to call it.
            **kwargs: as in transformers' `load_adapter`, `hotswap=True` included; `adapter_kwargs` holds options of
                the Hub, such as `revision`.

        Raises:
            ModuleNotFoundError: PEFT is not installed.
            ValueError: there is an adapter of that name, this is not the model it was trained on, or weights are
                missing.
        """
        if peft_model_id is None:
            raise ValueError("peft_model_id is None; give an adapter folder, or its name on the Hub.")
        name, source = adapter_name or "default", os.fspath(peft_model_id)
        options = dict(kwargs.pop("adapter_kwargs", None) or {})
        kwargs = {key: value for key, value in kwargs.items() if key != "load_config"}  # of the base
        info = read_adapter_info(source, **options)
        if info is None:
            parts = stage_parts(*_read_adapter(source, options))
        else:
            self._check_base(info)
            parts = {stage: _read_adapter(source, options | {"subfolder": stage}) for stage in info.stages}
        swapped = self._swapped(name, list(parts), kwargs.get("hotswap", "auto"))
        try:
            for stage, (config, weights) in parts.items():
                arguments = {"peft_config": config, "adapter_state_dict": weights, **kwargs}
                self._load_stage(stage, name, source, arguments)
        except Exception:
            if not swapped:
                self._forget(name)
            raise
        self.set_adapter(name)

    def _load_stage(self, stage: str, name: str, source: str, arguments: dict[str, Any]) -> None:
        with _second_adapter_is_no_surprise():
            report = self.stages[stage].load_adapter(adapter_name=name, **arguments)
        missing = sorted(key for key in report.missing_keys if f".{name}." in key)
        if missing:
            raise ValueError(f"The {stage} adapter of {source} lacks {missing[0]}; save it again.")

    def _check_base(self, info: AdapterInfo) -> None:
        for stage, expected in info.stages.items():
            found = fingerprint(self.stages[stage])
            # 1 %: weights may have been stored in float16 or bfloat16 since.
            if len(found) != len(expected) or not torch.allclose(
                torch.tensor(found), torch.tensor(expected), rtol=1e-2, atol=1e-3
            ):
                raise ValueError(
                    f"The {stage} stage of this model is not the one that the adapter was trained on ({info.base!r}); "
                    "load that checkpoint, or train the adapter again."
                )

    def _swapped(self, name: str, stages: list[str], hotswap: bool | str) -> bool:
        """Return whether an adapter takes another's place; check that there is one, or that the name is free."""
        there = [stage for stage, names in self._adapters().items() if name in names]
        prepared = any(getattr(stage, "_hotswap_enabled", False) for stage in self.stages.values())
        if hotswap is True or (hotswap == "auto" and prepared and there):
            if sorted(there) != sorted(stages):
                raise ValueError(
                    f"hotswap puts an adapter in another's place, and {name!r} is on the stages {there}, the new one "
                    f"on {stages}; load it under another name without hotswap."
                )
            return True
        if there:
            raise ValueError(f"There is an adapter {name!r} already; give another adapter_name, or delete that one.")
        return False

    def enable_peft_hotswap(self, *args: Any, **kwargs: Any) -> None:
        """Prepare every stage for `load_adapter(..., hotswap=True)`; arguments as in transformers' method."""
        for stage in self.stages.values():
            stage.enable_peft_hotswap(*args, **kwargs)

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        r"""Add new adapters to the stages and activate them.

        Args:
            adapter_config (`peft.PeftConfig`): of an adapter of layers. `target_modules` choose layers by their names
                in the whole model (`"q_proj"`, `r"coarse\..*q_proj"`), among those of the stages; without them, all
                linear ones of the stages but their heads.
            adapter_name (`str`, *optional*, defaults to `"default"`): what to call it.

        Raises:
            TypeError: `adapter_config` is something else.
            ValueError: there is an adapter of that name, or no such layer.
        """
        require_layer_adapter(adapter_config)
        name = adapter_name or "default"
        targets = getattr(adapter_config, "target_modules", None)
        is_target = import_peft().tuners.tuners_utils.check_target_module_exists
        chosen: dict[str, Any] = {}
        for stage, model in self.stages.items():
            if targets in (None, "all-linear"):
                chosen[stage] = "all-linear"
            elif names := [key for key, _ in model.named_modules() if is_target(adapter_config, f"{stage}.{key}")]:
                chosen[stage] = names
        if not chosen:
            raise ValueError(f"target_modules is {targets!r}, which no layer of the stages is called.")
        self._swapped(name, list(chosen), hotswap=False)
        for stage, names in chosen.items():
            config = copy.deepcopy(adapter_config)
            config.target_modules = names
            self.stages[stage].add_adapter(config, name)
        self.set_adapter(name)

    def _adapters(self) -> dict[str, list[str]]:
        """Names of the adapters on each stage that has any."""
        return {name: list(stage.peft_config) for name, stage in self.stages.items() if stage._hf_peft_config_loaded}

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Use one or several of the loaded adapters; stages that they do not change run without any.

        Args:
            adapter_name (`str` or `list[str]`): as given to `load_adapter` or `add_adapter`.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        wanted = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
        adapters = self._adapters()
        known = sorted({name for names in adapters.values() for name in names})
        for name in wanted:
            if name not in known:
                raise ValueError(f"There is no adapter {name!r}; loaded are {known}. Load it with load_adapter.")
        for stage, names in adapters.items():
            self.stages[stage].enable_adapters()
            self.stages[stage].set_adapter([name for name in wanted if name in names])

    def active_adapters(self) -> list[str]:
        """Name the adapters that are set, whether they are enabled or not."""
        names = [name for stage in self._adapters() for name in self.stages[stage].active_adapters()]
        return list(dict.fromkeys(names))

    def disable_adapters(self) -> None:
        """Run without adapters until `enable_adapters` or `set_adapter`."""
        for stage in self._adapters():
            self.stages[stage].disable_adapters()

    def enable_adapters(self) -> None:
        """Use the adapters that were set last again.

        Raises:
            ValueError: no adapter is loaded.
        """
        if not self._adapters():
            raise ValueError("No adapter is loaded; load one with load_adapter.")
        for stage in self._adapters():
            self.stages[stage].enable_adapters()

    def get_adapter_state_dict(self, adapter_name: str | None = None) -> dict[str, Tensor]:
        """Return the weights of one adapter by their names in the whole model, by default of the one that is set."""
        name = adapter_name or next(iter(self.active_adapters()), "default")
        found = {stage: self.stages[stage] for stage, names in self._adapters().items() if name in names}
        if not found:
            raise ValueError(f"There is no adapter {name!r}; loaded are {self._adapters()}.")
        weights = {stage: model.get_adapter_state_dict(name) for stage, model in found.items()}
        return {f"{stage}.{key}": tensor for stage, part in weights.items() for key, tensor in part.items()}

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Remove adapters from the stages.

        Args:
            adapter_names (`str` or `list[str]`): as given to `load_adapter` or `add_adapter`.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for name in names:
            if not any(name in loaded for loaded in self._adapters().values()):
                raise ValueError(f"There is no adapter {name!r}; loaded are {self._adapters()}.")
        active = [name for name in self.active_adapters() if name not in names]
        for name in names:
            self._forget(name)
        left = [name for loaded in self._adapters().values() for name in loaded]
        if left:
            self.set_adapter(active or left[0])

    def _forget(self, name: str) -> None:
        for stage, loaded in self._adapters().items():
            if name in loaded:
                self.stages[stage].delete_adapter(name)
        self._drop_wrappers()

    def _drop_wrappers(self) -> None:
        """Restore stages without adapters in place of the `PeftModel` that was around them."""
        for name, stage in self.stages.items():
            if getattr(self, name) is not stage and not has_adapter_layers(stage):
                setattr(self, name, stage)

    @torch.no_grad()
    def merge_and_unload(self) -> Any:
        """Add the adapters that are set to the weights of the stages, for good, and forget all others.

        The model is then a plain one: as fast as its base, and saved whole by `save_pretrained`.

        Returns:
            The model itself.

        Raises:
            ValueError: no adapter is loaded.
        """
        if not self._adapters():
            raise ValueError("There is nothing to merge: no adapter is loaded. Load one with load_adapter.")
        for name in self._adapters():
            unload_adapters(self.stages[name], merge=True)
        self._drop_wrappers()
        return self

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the checkpoint; with an adapter set, an adapter folder that names the checkpoint, as transformers does.

        Args:
            save_directory (`str` or `os.PathLike`): folder, made if it is not there.
            *args: as in `PreTrainedModel.save_pretrained`.
            **kwargs: likewise; none of them with an adapter.

        Raises:
            ValueError: there are adapters that cannot be saved so: several are set, options are given for one, the
                base it belongs to has no name, or it is a `PeftModel`'s around the whole model.
        """
        self._drop_wrappers()
        if self._adapters():
            if args or kwargs:
                raise ValueError(
                    f"An adapter is set, so only its weights are saved, without the options {sorted(kwargs) or args}; "
                    "leave them out, or call merge_and_unload to save a whole checkpoint."
                )
            self.save_adapter(save_directory)
            return
        if has_adapter_layers(self):  # type: ignore[arg-type]
            raise ValueError(
                "Layers have adapters of a PeftModel around the whole model, and would be saved without their names; "
                "save that PeftModel, or call its merge_and_unload first."
            )
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

    def save_adapter(self, save_directory: str | os.PathLike, recordings: Mapping[str, Any] | None = None) -> None:
        """Save the adapter that is set as an adapter folder.

        Args:
            save_directory (`str` or `os.PathLike`): folder, made if it is not there.
            recordings (`dict`, *optional*): which recordings it was trained on, see [`AdapterInfo`].

        Raises:
            ValueError: no adapter is set, or several, or the model was not loaded from anywhere.
        """
        active = self.active_adapters()
        if not active:
            raise ValueError("No adapter is set, so there is none to save; call load_adapter or set_adapter first.")
        if len(active) > 1:
            raise ValueError(
                f"The adapters {active} are set, and one is saved at a time; call set_adapter with one, or "
                "merge_and_unload to save a whole checkpoint."
            )
        if not self.name_or_path:
            raise ValueError(
                f"The adapter {active[0]!r} belongs to a model that was not loaded from anywhere, so that its folder "
                "cannot name a base; save the base first and load it with from_pretrained, or call merge_and_unload."
            )
        folder = Path(save_directory)
        base = base_name(self.name_or_path, folder)
        changed = [stage for stage, names in self._adapters().items() if active[0] in names]
        for stage in changed:
            self.stages[stage].peft_config[active[0]].base_model_name_or_path = base
            self.stages[stage].save_pretrained(folder / stage)
        self.config.save_pretrained(folder)  # type: ignore[attr-defined]
        AdapterInfo(base, {stage: fingerprint(self.stages[stage]) for stage in changed}, dict(recordings or {})).save(
            folder
        )


def _share_quantization(model: Any) -> None:
    """Tell the stages that they are held in 8 or 4 bits: PEFT asks the model that it adapts, which is a stage."""
    for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit"):
        if vars(model).get(flag):
            for stage in model.stages.values():
                vars(stage)[flag] = True


def _read_adapter(source: str, options: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Read the configuration and the weights of an adapter as PEFT writes it."""
    peft = import_peft()
    config = peft.PeftConfig.from_pretrained(source, **options)
    return config, peft.utils.load_peft_weights(source, device="cpu", **options)


@contextmanager
def _second_adapter_is_no_surprise() -> Iterator[None]:
    """Keep PEFT from warning of a second adapter, and transformers from reporting the first one's weights missing."""
    log = logging.get_logger("transformers.integrations.peft")
    log.addFilter(_is_no_load_report)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute in the model")
            yield
    finally:
        log.removeFilter(_is_no_load_report)


def _is_no_load_report(record: LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


__all__ = ["AudioLMAdapterMixin"]
