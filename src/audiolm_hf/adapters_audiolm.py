# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Adapters of a whole AudioLM: one folder with a PEFT adapter for each adapted stage.

An adapter folder holds `semantic/`, `coarse/` and `fine/` (those that were trained), each an adapter as PEFT writes
it, and `audiolm_adapter.json`, which names the checkpoint that they belong to. `from_pretrained` of such a folder
loads that checkpoint and puts the adapters on its stages, so that pipelines and the Auto classes take it like any
other checkpoint. Comes in before `modeling_audiolm`, whose model inherits [`AudioLMAdapterMixin`].
"""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import LogRecord
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import cached_file, is_peft_available, logging

ADAPTER_FILE = "audiolm_adapter.json"
# Checkpoints that come with the package lie beside this file; where a checkpoint brought the code, there are none.
_BUNDLED = Path(__file__).parent / "checkpoints"
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
_FINGERPRINT_LENGTH = 16


@dataclass(frozen=True)
class AdapterInfo:
    """What `audiolm_adapter.json` says.

    Args:
        base (`str`): checkpoint that the adapters belong to: short name of a bundled one, folder, or name on the Hub.
        stages (`dict[str, list[float]]`): for each adapted stage, the [`fingerprint`] of the base's weights.
        recordings (`dict`): which recordings were learned from, as the training chose them.
    """

    base: str
    stages: dict[str, list[float]]
    recordings: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike) -> None:
        """Write it into an adapter folder."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        (Path(folder) / ADAPTER_FILE).write_text(text, encoding="utf-8")


def read_adapter_info(name_or_path: str | os.PathLike, **hub_options: Any) -> AdapterInfo | None:
    """Read which base checkpoint an adapter folder belongs to.

    Args:
        name_or_path (`str` or `os.PathLike`): folder, or `user/name` on the Hub.
        **hub_options: `cache_dir`, `force_download`, `local_files_only`, `revision`, `token`.

    Returns:
        [`AdapterInfo`], or `None` if this is no adapter folder.
    """
    path: str | os.PathLike | None = Path(name_or_path) / ADAPTER_FILE
    if not Path(name_or_path).is_dir():
        path = cached_file(
            os.fspath(name_or_path),
            ADAPTER_FILE,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            **hub_options,
        )
    if path is None or not Path(path).is_file():
        return None
    return AdapterInfo(**json.loads(Path(path).read_text(encoding="utf-8")))


def fingerprint(stage: PreTrainedModel) -> list[float]:
    """Take a few weights by which a stage is known again: the first of its last vector, most often the final norm.

    Vectors are neither quantised nor touched by LoRA.

    Args:
        stage ([`AudioLMStageModel`]): with or without adapters.

    Returns:
        `list[float]`: at most 16; none for a stage without vectors.
    """
    vectors = [weight for name, weight in stage.named_parameters() if weight.dim() == 1 and "lora_" not in name]
    return [round(value, 5) for value in vectors[-1][:_FINGERPRINT_LENGTH].tolist()] if vectors else []


def base_name(folder: str) -> str:
    """Name a checkpoint so that it is found on other machines where possible: bundled ones by their short name."""
    path = Path(folder)
    if not path.is_dir():
        return folder
    return path.name if path.resolve().parent == _BUNDLED.resolve() else path.resolve().as_posix()


def _find_base(base: str) -> str:
    """Folder or Hub name of an adapter's base."""
    if (_BUNDLED / base).is_dir() and base:
        return str(_BUNDLED / base)
    if not Path(base).is_dir() and base.count("/") != 1:
        raise ValueError(
            f"The adapter belongs to the checkpoint {base!r}, which is not found; install the package audiolm_hf if "
            "it is a bundled one, or load that checkpoint from where it is and call load_adapter on it."
        )
    return base


class AudioLMAdapterMixin:
    """Adapters for a model of several stages, by the names that transformers uses for one: load, switch, merge, save.

    Put before `PreTrainedModel` among the bases of a model with the property `stages`. A stage that an adapter does
    not change runs without any while that adapter is set.
    """

    name_or_path: str
    _adapter_name: str | None = None

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
        options = {name: kwargs[name] for name in _HUB_OPTIONS if name in kwargs}
        source = pretrained_model_name_or_path
        info = None if source is None or "subfolder" in kwargs else read_adapter_info(source, **options)
        if source is None or info is None:
            loaded = load(source, *model_args, **kwargs)
            _share_quantization(loaded[0] if isinstance(loaded, tuple) else loaded)
            return loaded
        kwargs.pop("revision", None)  # of the adapter
        try:
            loaded = load(_find_base(info.base), *model_args, **kwargs)
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
    ) -> Any:
        """Put the adapters of a folder on the stages, and set them.

        Args:
            peft_model_id (`str` or `os.PathLike`): adapter folder, or its name on the Hub. One without
                `audiolm_adapter.json` is taken for a single PEFT adapter of the whole model.
            adapter_name (`str`, *optional*, defaults to `"default"`): what to call it.
            **kwargs: as in transformers' `load_adapter`; `adapter_kwargs` holds options of the Hub, such as
                `revision`.

        Raises:
            ModuleNotFoundError: PEFT is not installed.
            ValueError: there is an adapter of that name, this is not the model it was trained on, or weights are
                missing.
        """
        options = dict(kwargs.pop("adapter_kwargs", None) or {})
        info = None if peft_model_id is None else read_adapter_info(peft_model_id, **options)
        if peft_model_id is None or info is None:
            source = None if peft_model_id is None else os.fspath(peft_model_id)
            return super().load_adapter(source, adapter_name, adapter_kwargs=options, **kwargs)  # type: ignore[misc]
        if not is_peft_available():
            raise ModuleNotFoundError("Adapters need PEFT, which is not installed: pip install peft.", name="peft")
        name = adapter_name or "default"
        self._check_loadable(name, info)
        for stage in info.stages:
            with _second_adapter_is_no_surprise():
                report = self.stages[stage].load_adapter(
                    os.fspath(peft_model_id), name, adapter_kwargs=options | {"subfolder": stage}, **kwargs
                )
            missing = sorted(key for key in report.missing_keys if f".{name}." in key)
            if missing:
                raise ValueError(f"The {stage} adapter of {peft_model_id} lacks {missing[0]}; save it again.")
        return self.set_adapter(name)

    def _check_loadable(self, name: str, info: AdapterInfo) -> None:
        if any(name in names for names in self._adapters().values()):
            raise ValueError(f"There is an adapter {name!r} already; give another adapter_name, or delete that one.")
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

    def _adapters(self) -> dict[str, list[str]]:
        """Names of the adapters on each stage that has any."""
        return {name: list(stage.peft_config) for name, stage in self.stages.items() if stage._hf_peft_config_loaded}

    def set_adapter(self, adapter_name: str) -> None:
        """Use one of the loaded adapters; stages that it does not change run without any.

        Args:
            adapter_name (`str`): as given to `load_adapter`.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        adapters = self._adapters()
        known = sorted({name for names in adapters.values() for name in names})
        if adapter_name not in known:
            raise ValueError(f"There is no adapter {adapter_name!r}; loaded are {known}. Load it with load_adapter.")
        for stage, names in adapters.items():
            if adapter_name in names:
                self.stages[stage].enable_adapters()
                self.stages[stage].set_adapter(adapter_name)
            else:
                self.stages[stage].disable_adapters()
        self._adapter_name = adapter_name

    def active_adapters(self) -> list[str]:
        """Name the adapter that is set, whether it is enabled or not, in a list; an empty one if there is none."""
        return [] if self._adapter_name is None else [self._adapter_name]

    def disable_adapters(self) -> None:
        """Run without adapters until `enable_adapters` or `set_adapter`."""
        for stage in self._adapters():
            self.stages[stage].disable_adapters()

    def enable_adapters(self) -> None:
        """Use the adapter that was set last again.

        Raises:
            ValueError: no adapter is loaded.
        """
        if self._adapter_name is None:
            raise ValueError("No adapter is loaded; load one with load_adapter.")
        self.set_adapter(self._adapter_name)

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Remove adapters from the stages.

        Args:
            adapter_names (`str` or `list[str]`): as given to `load_adapter`.

        Raises:
            ValueError: no adapter of that name is loaded.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for name in names:
            stages = [stage for stage, loaded in self._adapters().items() if name in loaded]
            if not stages:
                raise ValueError(f"There is no adapter {name!r}; loaded are {self._adapters()}.")
            for stage in stages:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Adapter .* was active which is now deleted")
                    self.stages[stage].delete_adapter(name)
        left = [name for loaded in self._adapters().values() for name in loaded]
        if self._adapter_name in names:
            self._adapter_name = None
            if left:
                self.set_adapter(left[0])

    @torch.no_grad()
    def merge_and_unload(self) -> Any:
        """Add the adapter that is set to the weights of the stages, for good, and forget all others.

        The model is then a plain one: as fast as its base, and saved whole by `save_pretrained`.

        Returns:
            The model itself.

        Raises:
            ValueError: no adapter is loaded.
        """
        if self._adapter_name is None:
            raise ValueError("There is nothing to merge: no adapter is loaded. Load one with load_adapter.")
        for name, loaded in self._adapters().items():
            stage = self.stages[name]
            _unload(stage, merge=self._adapter_name in loaded)
            stage.delete_adapter(loaded)
        self._adapter_name = None
        return self

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the checkpoint; with an adapter set, an adapter folder that names the checkpoint, as transformers does.

        Args:
            save_directory (`str` or `os.PathLike`): folder, made if it is not there.
            *args: as in `PreTrainedModel.save_pretrained`.
            **kwargs: likewise; none of them with an adapter.

        Raises:
            ValueError: options are given for an adapter, or the base it belongs to has no name.
        """
        if self._adapter_name is None:
            super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]
            return
        if args or kwargs:
            raise ValueError(
                f"An adapter is set, so only its weights are saved, without the options {sorted(kwargs) or args}; "
                "leave them out, or call merge_and_unload first to save a whole checkpoint."
            )
        self.save_adapter(save_directory)

    def save_adapter(self, save_directory: str | os.PathLike, recordings: Mapping[str, Any] | None = None) -> None:
        """Save the adapter that is set as an adapter folder.

        Args:
            save_directory (`str` or `os.PathLike`): folder, made if it is not there.
            recordings (`dict`, *optional*): which recordings it was trained on, see [`AdapterInfo`].

        Raises:
            ValueError: no adapter is set, or the model was not loaded from anywhere.
        """
        if self._adapter_name is None or not self.name_or_path:
            raise ValueError(
                f"The adapter is {self._adapter_name!r} and its base {self.name_or_path!r}; load a checkpoint with "
                "from_pretrained and an adapter with load_adapter, or save the base first."
            )
        name, base, folder = self._adapter_name, base_name(self.name_or_path), Path(save_directory)
        changed = [stage for stage, names in self._adapters().items() if name in names]
        for stage in changed:
            config = self.stages[stage].peft_config[name]
            config.base_model_name_or_path = ""  # or PEFT would look for the base on the Hub while it saves
            self.stages[stage].save_pretrained(folder / stage)
            config.base_model_name_or_path = base
            config.save_pretrained(folder / stage)
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


def _unload(stage: PreTrainedModel, merge: bool) -> None:
    """Replace the layers of adapters by those they stand for, with or without what the adapters add."""
    try:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils import AuxiliaryTrainingWrapper
    except ImportError as error:  # adapters are there, so PEFT is: only its inside could have changed
        raise ImportError("Merging adapters needs PEFT: pip install 'peft>=0.20'.") from error
    for parent in list(stage.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, BaseTunerLayer):
                if merge:
                    layer.merge(safe_merge=True)
                parent.add_module(name, layer.get_base_layer())
            elif isinstance(layer, AuxiliaryTrainingWrapper):
                unloaded = layer.unload_and_optionally_merge_module(merge=merge, safe_merge=True, adapter_names=None)
                parent.add_module(name, unloaded)


__all__ = [
    "ADAPTER_FILE",
    "AdapterInfo",
    "AudioLMAdapterMixin",
    "base_name",
    "fingerprint",
    "read_adapter_info",
]
