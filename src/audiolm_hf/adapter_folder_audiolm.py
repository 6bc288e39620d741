# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What lies on disk of adapters: an AudioLM's own folder, and PEFT's over the whole model.

An adapter folder holds `semantic/`, `coarse/` and `fine/` (those that were trained), each an adapter as PEFT writes
it, and `audiolm_adapter.json`, which names the checkpoint that they belong to.
"""

import copy
import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from .configuration_audiolm import STAGE_NAMES
from .stage_adapters_audiolm import BUNDLED_CHECKPOINTS, import_peft

ADAPTER_FILE = "audiolm_adapter.json"
HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "revision", "token")
_FINGERPRINT_LENGTH = 16


@dataclass(frozen=True)
class AdapterInfo:
    """What `audiolm_adapter.json` says.

    Args:
        base (`str`): checkpoint that the adapters belong to: short name of a bundled one, name on the Hub, or folder
            relative to the adapters'.
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


def find_base(base: str, adapter: str | os.PathLike) -> str:
    """Find the base of an adapter: bundled, relative to the adapter, or on the Hub.

    Args:
        base (`str`): as [`AdapterInfo`] has it.
        adapter (`str` or `os.PathLike`): folder of the adapter, or its name on the Hub.

    Returns:
        `str`: folder or name on the Hub.

    Raises:
        ValueError: it is not there.
    """
    if (BUNDLED_CHECKPOINTS / base).is_dir() and base:
        return str(BUNDLED_CHECKPOINTS / base)
    beside = Path(adapter) / base
    if Path(adapter).is_dir() and beside.is_dir() and base:
        return str(beside.resolve())
    if base.startswith((".", "/")) or base.count("/") != 1:
        raise ValueError(
            f"The adapter belongs to the checkpoint {base!r}, which is not found; install the package audiolm_hf if "
            "it is a bundled one, or load that checkpoint from where it is and call load_adapter on it."
        )
    return base


def stage_parts(config: Any, tensors: Mapping[str, Tensor]) -> dict[str, tuple[Any, dict[str, Tensor]]]:
    """Split an adapter of the whole model into those of its stages.

    Args:
        config (`peft.PeftConfig`): of the whole model's adapter.
        tensors (`dict[str, torch.Tensor]`): its weights, as PEFT names them.

    Returns:
        `dict`: for each stage that it changes, the configuration and the weights of an adapter of that stage.

    Raises:
        ValueError: it changes other parts of the model.
    """
    pattern_key = import_peft().utils.other.get_pattern_key
    mark = f".{config.peft_type.value.lower()}_"
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        stage, _, name = key.removeprefix("base_model.model.").partition(".")
        if stage not in STAGE_NAMES or mark not in name:
            raise ValueError(f"The adapter changes {key}; only layers of the stages {STAGE_NAMES} can have adapters.")
        found.setdefault(stage, {})[f"base_model.model.{name}"] = tensor
    parts = {}
    for stage, weights in found.items():
        part = copy.deepcopy(config)
        targets = sorted({key.removeprefix("base_model.model.").partition(mark)[0] for key in weights})
        part.target_modules = targets
        part.exclude_modules = part.layers_to_transform = part.layers_pattern = None
        for name in ("rank_pattern", "alpha_pattern"):
            given = getattr(config, name, None) or {}
            keys = {target: pattern_key(given, f"{stage}.{target}") for target in targets}
            setattr(part, name, {target: given[key] for target, key in keys.items() if key in given})
        parts[stage] = (part, weights)
    return parts


__all__ = [
    "ADAPTER_FILE",
    "HUB_OPTIONS",
    "AdapterInfo",
    "find_base",
    "fingerprint",
    "read_adapter_info",
    "stage_parts",
]
