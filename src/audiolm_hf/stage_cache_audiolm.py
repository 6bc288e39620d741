# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Caches of a stage's decoder: one that grows, and one of fixed shape, for compiled and captured steps."""

from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, StaticCache
from transformers.cache_utils import DynamicLayer

from .configuration_audiolm import AudioLMStageConfig


class _GrowingLayer(DynamicLayer):
    """Keys and values in memory reserved once; appending copies nothing that is already there."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.key_room = key_states.new_empty(*key_states.shape[:2], self.capacity, key_states.shape[3])
        self.value_room = value_states.new_empty(*value_states.shape[:2], self.capacity, value_states.shape[3])
        self.keys, self.values = self.key_room[:, :, :0], self.value_room[:, :, :0]
        self.is_initialized = True

    @torch.compiler.disable  # views of one storage cannot be traced, but the rest of the decoder can be
    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[2]
        stop = start + key_states.shape[2]
        self.key_room[:, :, start:stop] = key_states
        self.value_room[:, :, start:stop] = value_states
        self.keys, self.values = self.key_room[:, :, :stop], self.value_room[:, :, :stop]
        return self.keys, self.values


def build_cache(config: AudioLMStageConfig, capacity: int) -> DynamicCache:
    """Return an empty cache of a stage with room for `capacity` ids."""
    cache = DynamicCache(config=config.backbone_config)
    cache.layers = [_GrowingLayer(capacity) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def fixed_length(length: int) -> int:
    """Return the length to which a sequence is padded where shapes are fixed (compiled or captured).

    It is a power of two, at least 64.
    """
    return max(64, 1 << (length - 1).bit_length())


class FixedCache(StaticCache):
    """A cache of fixed shape, for a compiled decoder or captured steps.

    `keep` holds it and `take` returns it again, because CUDA graphs refer to its memory addresses.

    Args:
        model ([`~transformers.PreTrainedModel`]): the decoder.
        rows (`int`): rows of the batch.
        capacity (`int`): maximum number of ids in a row.
    """

    _kept: ClassVar[WeakKeyDictionary[nn.Module, "FixedCache"]] = WeakKeyDictionary()

    def __init__(self, model: PreTrainedModel, rows: int, capacity: int) -> None:
        super().__init__(config=model.config, max_cache_len=capacity)
        self.key = (rows, capacity, model.dtype, model.device, torch.is_inference_mode_enabled())
        self.graphs: Any = None  # of steps with this cache

    @classmethod
    def take(cls, model: PreTrainedModel, rows: int, capacity: int) -> "FixedCache":
        """Return an empty cache: the one kept last if it fits, else a new one."""
        new, kept = cls(model, rows, capacity), cls._kept.pop(model, None)
        if kept is None or kept.key != new.key:
            return new
        kept.reset()
        return kept

    def keep(self, model: PreTrainedModel) -> None:
        """Hold this cache for a later sequence of a decoder."""
        self._kept[model] = self
