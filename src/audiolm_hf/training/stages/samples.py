# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Audio samples and spectrograms during the training of a stage that predicts codes.

Every `sample_steps` steps, the stage continues the codes of a validation crop.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from audiolm_hf.acoustic_codec_audiolm import AcousticCodec
from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.configuration_audiolm import AudioLMStageConfig
from audiolm_hf.data.crops import Crop, build_example, record_units
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.files import replace_file
from audiolm_hf.provenance_audiolm import provenance
from audiolm_hf.token_layout_audiolm import IGNORE_INDEX, SEMANTIC_LEVEL, codes_of_ids

PROMPT_SHARE = 0.3  # of the crop, as 3 s of 10 in the paper
TEMPERATURE = 0.8
SEED = 0


class SampleCallback(TrainerCallback):
    """A callback that continues a fixed validation crop, of the longest record, with fixed random numbers."""

    def __init__(
        self, codec: AcousticCodec, tokens: TokenDataset, config: AudioLMStageConfig, folder: Path, every: int
    ) -> None:
        if (codec.num_codebooks, codec.codebook_size) != (tokens.info.num_codebooks, tokens.info.codebook_size):
            raise ValueError(
                f"The codec has {codec.num_codebooks} codebooks of {codec.codebook_size}, the tokens were made with "
                f"{tokens.info.num_codebooks} of {tokens.info.codebook_size}; name the codec that made them."
            )
        self.codec = codec
        self.config = config
        self.folder = folder
        self.every = every
        grid = tokens.info.grid
        record = max(tokens, key=lambda record: len(record.semantic_tokens))
        crop = Crop(0, 0, min(record_units(record, grid), grid.units(config.window_length_s)))
        self._example = build_example(record, crop, grid, config)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: PreTrainedModel | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a sample every `every` steps. All processes take part, because the model may be sharded."""
        if model is None or state.global_step % self.every:
            return
        ids = self._continue(model)
        if state.is_world_process_zero:
            self._write(f"step-{state.global_step:07d}", ids)

    def _continue(self, model: PreTrainedModel) -> Tensor:
        """Sample the end of the crop, and return the ids `(sequence_length,)` of the whole crop."""
        ids = self._example["input_ids"]
        known = len(ids) - self._num_predicted + self._prompt_frames * len(self.config.predicted_levels)
        prompt = ids[None, :known].to(model.device)
        was_training = model.training
        model.eval()
        devices = [prompt.device] if prompt.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # does not change the random numbers of the training
            torch.manual_seed(SEED)
            sampled = model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=len(ids) - known,
                do_sample=True,
                temperature=TEMPERATURE,
                pad_token_id=self.config.pad_token_id,
            )
        model.train(was_training)
        return sampled[0].cpu()

    @property
    def _num_predicted(self) -> int:
        return int((self._example["labels"] != IGNORE_INDEX).sum())

    @property
    def _prompt_frames(self) -> int:
        return int(PROMPT_SHARE * self._num_predicted / len(self.config.predicted_levels))

    def _write(self, name: str, ids: Tensor) -> None:
        # Only samples need matplotlib, which is in the extra `evaluation`.
        from audiolm_hf.evaluation.metrics.spectrograms import save_spectrograms

        arrays = {"from its own codes": self._decode(self._example["input_ids"]), "continued": self._decode(ids)}
        rate = self.codec.sampling_rate
        self.folder.mkdir(parents=True, exist_ok=True)
        write_audio(self.folder / f"{name}.wav", arrays["continued"], rate, provenance(seed=SEED))
        boundary_s = self._prompt_frames * self.codec.hop_length / rate
        draw = partial(save_spectrograms, arrays, rate, boundary_s=boundary_s)
        replace_file(self.folder / f"{name}.png", draw)

    @torch.no_grad()
    def _decode(self, ids: Tensor) -> np.ndarray:
        """Decode the codes of a sequence; those of the fine stage follow the coarse ones."""
        start = len(ids) - self._num_predicted
        parts = [codes_of_ids(ids[None, start:], self.config.predicted_levels, self.config)]
        if SEMANTIC_LEVEL not in self.config.condition_levels:
            parts.insert(0, codes_of_ids(ids[None, 1 : start - 1], self.config.condition_levels, self.config))
        return self.codec.decode(torch.cat(parts, dim=1))[0].float().cpu().numpy()
