# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Adapters of one stage, by transformers' names for them, through PEFT itself.

transformers' own methods do the same, but ask for a release of PEFT that may not be out yet (5.24 for 0.22). Those
here see an adapter however it came to the stage: by `load_adapter`, `add_adapter` or PEFT's `get_peft_model`.
"""

import copy
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

# Checkpoints that come with the package lie beside this file; where a checkpoint brought the code, there are none.
BUNDLED_CHECKPOINTS = Path(__file__).parent / "checkpoints"
_WRAPPED = ("base_layer", "original_module")  # what PEFT calls the layer that an adapter stands for


def import_peft() -> Any:
    """Return the module `peft`.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import peft.functional
    except ImportError as error:
        raise ModuleNotFoundError(
            "Adapters need PEFT, which is not installed: pip install peft.", name="peft"
        ) from error
    return peft


def base_name(folder: str, beside: str | os.PathLike | None = None) -> str:
    """Name the checkpoint of an adapter without the path of this machine.

    Args:
        folder (`str`): checkpoint: folder, or name on the Hub.
        beside (`str` or `os.PathLike`, *optional*): the adapter's folder.

    Returns:
        `str`: a name on the Hub as it is; short name of a bundled checkpoint; other folders relative to `beside`, or
        without it their own name.
    """
    path = Path(folder)
    if not (folder and path.is_dir()):
        return folder
    if path.resolve().parent == BUNDLED_CHECKPOINTS.resolve():
        return path.name
    if beside is None:
        return path.resolve().name
    relative = Path(os.path.relpath(path.resolve(), Path(beside).resolve())).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


def has_adapter_layers(model: nn.Module) -> bool:
    """Say whether layers of a model are wrapped by PEFT, so that its weights have other names than the base's."""
    return any(name.rpartition(".")[2] in _WRAPPED for name, _ in model.named_modules())


def require_layer_adapter(config: Any) -> None:
    """Refuse what is no configuration of an adapter of layers.

    Args:
        config (`peft.PeftConfig`): of the adapter.

    Raises:
        TypeError: it is something else.
        ValueError: it puts vectors before the ids, which the stages' positions do not allow.
    """
    if not hasattr(config, "peft_type"):
        raise TypeError(f"The adapter's configuration is of type {type(config).__name__}; give a peft.LoraConfig.")
    if config.is_prompt_learning:
        raise ValueError(
            f"{type(config).__name__} puts vectors before the ids, which the stages do not support; give an adapter "
            "of layers, such as peft.LoraConfig."
        )


def bare_stage(stage: Any) -> PreTrainedModel:
    """Return a stage itself where `peft.get_peft_model` wrapped it; its layers keep their adapters.

    Args:
        stage ([`AudioLMStageModel`] or `peft.PeftModel`): with or without a wrapper.

    Raises:
        ValueError: the adapter is not one of layers.
    """
    if isinstance(stage, PreTrainedModel):
        return stage
    for config in stage.peft_config.values():
        require_layer_adapter(config)
    return stage.get_base_model()


def unload_adapters(stage: nn.Module, merge: bool) -> None:
    """Replace the layers of adapters by those they stand for, with or without what the active adapters add.

    Args:
        stage (`torch.nn.Module`): changed in place.
        merge (`bool`): add the active adapters to the weights.
    """
    peft = import_peft()
    for parent in list(stage.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer):
                if merge:
                    layer.merge(safe_merge=True)
                parent.add_module(name, layer.get_base_layer())
            elif isinstance(layer, peft.utils.AuxiliaryTrainingWrapper):
                unloaded = layer.unload_and_optionally_merge_module(merge=merge, safe_merge=True, adapter_names=None)
                parent.add_module(name, unloaded)
    stage.__dict__.pop("peft_config", None)


class StageAdapterMixin:
    """Adapters on one model; see `PeftAdapterMixin` of transformers, whose methods these stand for.

    Put before `PreTrainedModel` among the bases.
    """

    name_or_path: str
    peft_config: dict[str, Any]

    @property
    def _hf_peft_config_loaded(self) -> bool:
        """Whether there is an adapter, which PEFT tells by `peft_config`, however it came here."""
        return bool(vars(self).get("peft_config"))

    @_hf_peft_config_loaded.setter
    def _hf_peft_config_loaded(self, value: bool) -> None:
        """Ignore what transformers notes beside `peft_config`."""

    def _layers(self) -> list[Any]:
        peft = import_peft()
        kinds = (peft.tuners.tuners_utils.BaseTunerLayer, peft.utils.AuxiliaryTrainingWrapper)
        return [layer for layer in self.modules() if isinstance(layer, kinds)]  # type: ignore[attr-defined]

    def _check_known(self, names: list[str]) -> None:
        known = list(vars(self).get("peft_config") or ())
        unknown = [name for name in names if name not in known]
        if unknown or not known:
            raise ValueError(f"There is no adapter {(unknown or names)[0]!r}; loaded are {known}.")

    def add_adapter(self, adapter_config: Any, adapter_name: str | None = None) -> None:
        """Put a fresh adapter on the stage, and set it.

        Args:
            adapter_config (`peft.PeftConfig`): of an adapter of layers; without `target_modules` all linear ones but
                the head.
            adapter_name (`str`, *optional*, defaults to `"default"`): what to call it.

        Raises:
            TypeError: `adapter_config` is something else.
            ValueError: there is an adapter of that name, or no such layer.
        """
        require_layer_adapter(adapter_config)
        name = adapter_name or "default"
        if self._hf_peft_config_loaded and name in self.peft_config:
            raise ValueError(f"There is an adapter {name!r} already; give another adapter_name, or delete that one.")
        config = copy.deepcopy(adapter_config)
        if getattr(config, "target_modules", ()) is None:
            config.target_modules = "all-linear"
        config.base_model_name_or_path = self.name_or_path
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config` attribute in the model")
            import_peft().inject_adapter_in_model(config, self, name)
        self.set_adapter(name)

    def set_adapter(self, adapter_name: str | list[str]) -> None:
        """Use one or several of the loaded adapters, and train them where the stage is trained.

        Args:
            adapter_name (`str` or `list[str]`): as given to `load_adapter` or `add_adapter`; an empty list for none.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        self._check_known([adapter_name] if isinstance(adapter_name, str) else adapter_name)
        import_peft().functional.set_adapter(self, adapter_name)

    def disable_adapters(self) -> None:
        """Run without adapters until `enable_adapters`."""
        for layer in self._layers():
            layer.enable_adapters(enabled=False)

    def enable_adapters(self) -> None:
        """Use the adapters that were set again."""
        for layer in self._layers():
            layer.enable_adapters(enabled=True)

    def active_adapters(self) -> list[str]:
        """Name the adapters that are set, whether they are enabled or not."""
        return list(self._layers()[0].active_adapters) if self._hf_peft_config_loaded else []

    def get_adapter_state_dict(
        self, adapter_name: str | None = None, state_dict: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the weights of one adapter, by default of the one that is set.

        Args:
            adapter_name (`str`, *optional*): as given to `load_adapter` or `add_adapter`.
            state_dict (`dict`, *optional*): of the stage, to choose them from.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        name = adapter_name or next(iter(self.active_adapters()), "default")
        self._check_known([name])
        # The base has its embeddings, so PEFT need not ask the Hub whether they are others.
        return import_peft().get_peft_model_state_dict(
            self, state_dict=state_dict, adapter_name=name, save_embedding_layers=False
        )

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Remove adapters; with the last one, the layers are those of the base again.

        Args:
            adapter_names (`str` or `list[str]`): as given to `load_adapter` or `add_adapter`.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        self._check_known(names)
        if set(names) >= set(self.peft_config):
            unload_adapters(self, merge=False)  # type: ignore[arg-type]
            return
        for name in names:
            prefix = f"{self.peft_config[name].peft_type.value.lower()}_"
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Adapter .* was active which is now deleted")
                import_peft().functional.delete_adapter(self, name, prefix=prefix)
            self.peft_config.pop(name)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the stage; with an adapter set, the adapter alone in PEFT's format.

        Args:
            save_directory (`str` or `os.PathLike`): folder, made if it is not there.
            *args: as in `PreTrainedModel.save_pretrained`.
            **kwargs: likewise.

        Raises:
            ValueError: layers have adapters whose configuration is not here, as of a `PeftModel` around the whole.
        """
        if not self._hf_peft_config_loaded and has_adapter_layers(self):  # type: ignore[arg-type]
            raise ValueError(
                "Layers have adapters of a PeftModel around this model, and would be saved without their names; save "
                "that PeftModel, or call its merge_and_unload first."
            )
        for config in (vars(self).get("peft_config") or {}).values():
            config.base_model_name_or_path = base_name(config.base_model_name_or_path or "")
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]


__all__ = [
    "BUNDLED_CHECKPOINTS",
    "StageAdapterMixin",
    "bare_stage",
    "base_name",
    "has_adapter_layers",
    "require_layer_adapter",
    "unload_adapters",
]
