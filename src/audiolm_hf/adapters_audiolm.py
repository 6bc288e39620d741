# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""PEFT adapters of the whole model or of a stage: transformers' methods, with a check of the base.

An adapter folder is a PEFT folder (`adapter_config.json`, `adapter_model.safetensors`) whose targets are layers of the
whole model, such as `coarse.model.layers.0.self_attn.q_proj`. `save_pretrained` adds `config.json`, so that the folder
loads like a checkpoint, and `audiolm_adapter.json` with values of the base's weights, by which the base is checked.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import cached_file, find_adapter_config_file, logging

from .compat_audiolm import AdapterMethods
from .strict_config_audiolm import BUNDLED, refuse_short_name

ADAPTER_FILE = "audiolm_adapter.json"
_CONFIGS = ("config.json", "adapter_config.json")
_HTTP_ERROR: Any = HfHubHTTPError.__bases__[0]  # of httpx or httpx2, whichever huggingface_hub is built on
_TIMEOUT_S = 10.0  # of the request that shows whether the Hub can be reached
_HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")
_OTHER = (
    "; it is of another model or saved in part. Load the adapter of a stage on that stage, such as model.coarse, and "
    "one of the whole on the AudioLMModel."
)
_WRAPPED = ("base_layer", "original_module", "token_adapter")  # PEFT's names of the layer that an adapter wraps


def find_adapter(source: str | os.PathLike, **hub_options: Any) -> str | None:
    """Return the path of `adapter_config.json` of a folder or of a name on the Hub; `None` if it is not an adapter."""
    folder = Path(source)
    if any(folder.glob("model*.safetensors")):  # a model with an adapter in the same folder
        return None
    _require_hub(os.fspath(source), hub_options)
    found = find_adapter_config_file(os.fspath(source), **hub_options)
    if found is None and (folder / ADAPTER_FILE).is_file():
        raise ValueError(
            f"{source} is an adapter folder in the older format, with a subfolder for each stage; convert it with: "
            f"audiolm-hf convert {source} NEW_FOLDER"
        )
    return found


def _require_hub(source: str, options: Mapping[str, Any]) -> None:
    """Check in one short request that a name is found; transformers retries for most of a minute, file by file."""
    if Path(source).is_dir() or HF_HUB_OFFLINE or options.get("local_files_only"):
        return
    place = {name: options[name] for name in ("cache_dir", "revision") if options.get(name)}
    if any(isinstance(try_to_load_from_cache(source, name, **place), str) for name in _CONFIGS):
        return
    try:
        HfApi(token=options.get("token")).model_info(source, revision=options.get("revision"), timeout=_TIMEOUT_S)
    except (HfHubHTTPError, HFValidationError):
        return  # the Hub has answered; transformers has the message
    except _HTTP_ERROR as error:
        raise OSError(
            f"{source} is not a folder, and the Hugging Face Hub cannot be reached ({error}); give the folder of a "
            "checkpoint, or audiolm_hf.checkpoint() for a bundled one."
        ) from None


def find_base(base: str | None, adapter: str | os.PathLike) -> str:
    """Return the base of an adapter: a bundled checkpoint, a folder relative to the adapter's, or a Hub name."""
    bundled = BUNDLED / (base or "") / "config.json"
    for folder in [bundled.parent] if bundled.is_file() else [Path(adapter) / (base or ""), Path(base or "")]:
        if base and folder.is_dir():
            return str(folder.resolve())
    if not base or base.startswith((".", "/")) or base.count("/") != 1:
        raise ValueError(
            f"The adapter {adapter} belongs to the checkpoint {base!r}, which is not found; load it and call "
            "load_adapter, or write its place into base_model_name_or_path of adapter_config.json."
        )
    return base


def name_base(name_or_path: str, adapter: str | os.PathLike) -> str | None:
    """Return `base_model_name_or_path` for an adapter's folder, without absolute paths; see [`find_base`]."""
    path = Path(name_or_path)
    if not (name_or_path and path.is_dir()):
        return name_or_path or None
    if path.resolve().parent == BUNDLED.resolve():
        return path.name
    relative = Path(os.path.relpath(path.resolve(), Path(adapter).resolve())).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


def redirect_to_base(source: str | os.PathLike | None, kwargs: dict[str, Any]) -> str | os.PathLike | None:
    """Return the base of an adapter and add the adapter to `kwargs`; return any other source as it is."""
    refuse_short_name(source)
    options = _hub_options(kwargs)
    found = None if source is None or options.get("subfolder") else find_adapter(source, **options)
    if source is None or found is None:
        return source
    _import_peft()  # without it, transformers would load the base alone
    base = json.loads(Path(found).read_text(encoding="utf-8")).get("base_model_name_or_path")
    given = {"revision": kwargs.pop("revision", None), **(kwargs.get("adapter_kwargs") or {})}
    kwargs["adapter_kwargs"] = given | {"_adapter_model_path": os.fspath(source)}
    return find_base(base, source)


def read_adapter_notes(source: str | os.PathLike, **hub_options: Any) -> dict[str, Any]:
    """Read `audiolm_adapter.json`, with `base_weights` and `recordings` of an adapter; empty where there is none."""
    path = find_file(source, ADAPTER_FILE, hub_options)
    return {} if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def find_file(source: str | os.PathLike, name: str, options: Mapping[str, Any]) -> str | None:
    """Return the path of a file of a folder or of a name on the Hub, `None` if it is not there; may download it."""
    if Path(source).is_dir():
        path = Path(source, options.get("subfolder") or "", name)
        found = str(path) if path.exists() else None
    else:
        optional = ("gated_repo", "missing_entries", "connection_errors")
        kept = {f"_raise_exceptions_for_{kind}": False for kind in optional} | _hub_options(options)
        found = cached_file(os.fspath(source), name, **kept)
        place = {key: options[key] for key in ("cache_dir", "revision") if options.get(key)}
        path = Path(str(try_to_load_from_cache(os.fspath(source), "config.json", **place))).with_name(name)
    if found is None and path.is_symlink():  # as in a cache from which files were deleted
        raise FileNotFoundError(f"{path} is a link to a file that is not there; download the checkpoint again.")
    return found


def _hub_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _HUB_OPTIONS if name in options}


def bare_stage(stage: Any) -> PreTrainedModel:
    """Return the stage inside a `peft.PeftModel`, with its adapters; return any other stage as it is."""
    if isinstance(stage, PreTrainedModel):
        return stage
    if not hasattr(stage, "peft_config"):
        raise TypeError(
            f"A stage of the model is a {type(stage).__name__}; put a stage or a PeftModel there, and compile a stage "
            "by its method compile()."
        )
    if any(config.is_prompt_learning for config in stage.peft_config.values()):
        raise ValueError("The stages do not support prompt learning; use adapters of layers, such as LoRA.")
    return stage.get_base_model()


def has_adapter(stage: nn.Module) -> bool:
    """Return whether layers of a stage have adapters that are set and not disabled."""
    wrapped = [layer for layer in stage.modules() if any(hasattr(layer, name) for name in _WRAPPED)]
    active = [(layer, name) for layer in wrapped if not layer.disable_adapters for name in layer.active_adapters]
    holders = (nn.ModuleDict, nn.ParameterDict)  # of the parts of each adapter, by its name
    return any(isinstance(each, holders) and name in each for layer, name in active for each in layer.children())


def refuse_adapted_tokens(model: Any) -> None:
    """Raise an error if layers of the tokenizer or the codec of a whole model have adapters."""
    parts = {part: getattr(model, part) for part in sorted(model._keep_in_fp32_modules)}
    found = [name for name, part in parts.items() if any(hasattr(each, "base_layer") for each in part.modules())]
    if found:
        raise ValueError(
            f"Layers of the {' and the '.join(found)} have adapters, though the stages were trained on their tokens. "
            f"Add adapters by model.add_adapter, or give exclude_modules=r'({'|'.join(parts)})\\..*'."
        )


def _import_peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ModuleNotFoundError("Adapters need PEFT: pip install peft.", name="peft") from error
    return peft


def _base_weights(model: Any) -> dict[str, Tensor]:
    """Return the weights by their names in the base, without those of adapters."""
    layers = {name.rpartition(".")[0] for name, _ in model.named_modules() if name.endswith(_WRAPPED)}
    weights = {}
    for name, weight in model.named_parameters():
        parts = name.split(".")
        inside = [part for place, part in enumerate(parts) if ".".join(parts[:place]) in layers]
        if set(inside) <= set(_WRAPPED):
            weights[".".join(part for part in parts if part not in _WRAPPED)] = weight
    return weights


def _middle(weight: Tensor) -> float | None:
    """Return the middle value of a weight; `None` if the weight is quantized, sharded or offloaded."""
    if type(weight) not in (Tensor, nn.Parameter) or not weight.is_floating_point() or weight.is_meta:
        return None
    return float(f"{weight.flatten()[weight.numel() // 2].item():.6g}")


class AdapterMixin(AdapterMethods):
    """transformers' methods for adapters, with a check of the base; must precede `PreTrainedModel` in the bases."""

    name_or_path: str
    peft_config: dict[str, Any]
    config: Any

    def load_adapter(
        self, peft_model_id: str | os.PathLike | None = None, adapter_name: str | None = None, **kwargs: Any
    ) -> Any:
        """Load an adapter and set it, after checking that it was trained on this base and is complete."""
        name = adapter_name or "default"
        if peft_model_id is not None:
            peft_model_id = os.fspath(peft_model_id)
            given = getattr(kwargs.get("load_config"), "download_kwargs", {})
            options = _hub_options({**given, **(kwargs.get("adapter_kwargs") or {})})
            find_adapter(peft_model_id, **options)  # refuses the older format
            self._check_base(peft_model_id, read_adapter_notes(peft_model_id, **options).get("base_weights", {}))
        conversions = vars(self).get("_weight_conversions")  # of the names in the base's file
        log = logging.get_logger("transformers.integrations.peft")
        log.addFilter(_is_no_report)  # which calls the weights of other adapters missing
        try:
            report = super().load_adapter(peft_model_id, name, **kwargs)  # type: ignore[misc]
        except RuntimeError as error:  # about shapes; transformers lists them in a report, which is filtered here
            raise ValueError(f"The shapes of the adapter {peft_model_id} do not fit this model{_OTHER}") from error
        finally:
            log.removeFilter(_is_no_report)
            self._weight_conversions = conversions  # or a save after delete_adapter would use the adapter's
        missing = sorted(
            key
            for key in report.missing_keys
            if name in key.split(".")[-2:] and ".ranknum." not in key  # which AdaLoRA does not save
        )
        if missing:
            self.delete_adapter(name)
            raise ValueError(f"The adapter {peft_model_id} lacks {missing[0]}{_OTHER}")
        self.set_adapter(name)
        return report

    def _check_base(self, adapter: str, expected: Mapping[str, float]) -> None:
        weights = _base_weights(self)
        for name, value in expected.items():
            if name not in weights:
                raise ValueError(
                    f"The adapter {adapter} was trained on another base, which has {name}; this model has no such "
                    "weight. Load the adapter on the checkpoint that it was trained on, or train it again."
                )
            found = _middle(weights[name])
            # Weights may have been rounded to float16 or bfloat16 since.
            if found is not None and not math.isclose(found, value, rel_tol=1e-2, abs_tol=1e-6):
                raise ValueError(
                    f"The adapter {adapter} was trained on another base: a value of {name} is {found}, was {value}. "
                    "Load the adapter on the checkpoint that it was trained on, or train it again."
                )

    def get_adapter_state_dict(
        self, adapter_name: str | None = None, state_dict: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return the weights of an adapter, by default of the active one."""
        name = adapter_name or self.active_adapters()[0]
        # The embeddings are in the base, so PEFT does not need to check on the Hub whether they were resized.
        return _import_peft().get_peft_model_state_dict(self, state_dict, name, save_embedding_layers=False)

    def delete_adapter(self, adapter_names: str | list[str]) -> None:
        """Remove adapters; without any, the original layers are restored."""
        super().delete_adapter(adapter_names)
        for parent in [] if vars(self).get("peft_config") else list(self.modules()):  # type: ignore[attr-defined]
            for name, layer in list(parent.named_children()):
                while inner := next(filter(None, map(layer._modules.get, _WRAPPED)), None):
                    layer = inner
                parent.add_module(name, layer)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the model, or the active adapter with the name of its base."""
        names = dict(self.named_modules())  # type: ignore[attr-defined]
        wrapped = {name.partition(".")[0] for name in names if name.endswith(_WRAPPED)}
        if wrapped and not self._hf_peft_config_loaded:  # type: ignore[attr-defined]
            raise ValueError(
                "Layers have adapters that were not put on this model itself, and would be saved under names that do "
                "not load. Save what they were put on, the PeftModel or the stage (model.coarse.save_pretrained), or "
                "call merge_and_unload of the PeftModel."
            )
        if wrapped and kwargs.get("is_main_process", True):
            folder = Path(save_directory)
            for config in self.peft_config.values():
                config.base_model_name_or_path = name_base(self.name_or_path, folder)
            folder.mkdir(parents=True, exist_ok=True)
            self.config.save_pretrained(folder)
            parts = {name: weight for name, weight in _base_weights(self).items() if name.partition(".")[0] in wrapped}
            if any(isinstance(getattr(each, "init_lora_weights", None), str) for each in self.peft_config.values()):
                for name in names:  # such as PiSSA, which begins with a change of these weights
                    parts.pop(f"{name.rpartition('.')[0]}.weight" if name.endswith(_WRAPPED) else "", None)
            values = {name: _middle(weight) for name, weight in parts.items() if _middle(weight) is not None}
            text = json.dumps({"base_weights": values}, indent=2) + "\n"
            (folder / ADAPTER_FILE).write_text(text, encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]


def _is_no_report(record: Any) -> bool:
    return "LOAD REPORT" not in record.getMessage()
