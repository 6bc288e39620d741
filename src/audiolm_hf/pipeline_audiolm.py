# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The task "audio-continuation": a sound goes in, the same sound and what might follow comes out.

Joins [`AudioLMProcessor`] and `AudioLMModel.generate` behind transformers' `pipeline` (continuation of a prompt,
arXiv 2209.03143). Last of the files that travel with a checkpoint.
"""

import json
import os
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from transformers.dynamic_module_utils import custom_object_save
from transformers.pipelines.base import Pipeline

TASK = "audio-continuation"


class AudioContinuation(TypedDict):
    """One result: `audio`, float32 of shape `(num_samples,)`, and its `sampling_rate` in Hz."""

    audio: np.ndarray
    sampling_rate: int


def check_same_rate(model: Any, processor: Any) -> None:
    """Check that a processor makes audio at the rate that a model takes.

    Raises:
        ValueError: if the rates differ.
    """
    if processor.sampling_rate != model.sampling_rate:
        raise ValueError(
            f"The processor works at {processor.sampling_rate} Hz and the model at {model.sampling_rate} Hz; use "
            f"AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate={model.sampling_rate})), which resamples any audio."
        )


class AudioContinuationPipeline(Pipeline):
    r"""Continue audio.

    ```python
    >>> import audiolm_hf
    >>> from transformers import pipeline

    >>> continue_audio = pipeline("audio-continuation")
    >>> result = continue_audio("prompt.wav", continuation_length_s=5, seed=0)
    >>> result["audio"].shape, result["sampling_rate"]
    ```

    Args:
        model ([`AudioLMModel`]): the model.
        processor ([`AudioLMProcessor`]): reads prompts and cuts results.
        kwargs: any option of `__call__`, as its default; `batch_size`, `device` and the other options of
            `transformers.Pipeline`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        check_same_rate(self.model, self.processor)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Continue one prompt, or each prompt of a list, generator or dataset.

        Args:
            inputs: a path, the `bytes` of a file, an array or tensor of shape `(num_samples,)` or `(num_channels,
                num_samples)` with `sampling_rate`, `{"array" or "raw", "sampling_rate"}`, `{"bytes" or "path"}`; or a
                list, generator or torch dataset of these.
            kwargs: options, all of them optional, as follows.
            sampling_rate (`int`, *optional*): rate of prompts given as bare arrays, Hz.
            continuation_length_s (`float`, *optional*): longest continuation, seconds; by default the checkpoint's.
            min_continuation_length_s (`float`, *optional*): shortest one, seconds; equal to `continuation_length_s`
                it makes the length exact. By default the model may end earlier.
            num_return_sequences (`int`, *optional*, defaults to 1): continuations of each prompt.
            return_full_audio (`bool`, *optional*, defaults to `True`): return the prompt and its continuation in one
                array, or the continuation alone.
            seed (`int`, *optional*): makes the result repeatable.
            generate_kwargs (`dict`, *optional*): further options of `AudioLMModel.generate`, such as
                `semantic_temperature`.
            batch_size (`int`, *optional*, defaults to 1): prompts generated at once.

        Returns:
            `{"audio": np.ndarray of shape (num_samples,) float32, "sampling_rate": int}`; a list of these if
            `num_return_sequences` is above 1; a list (an iterator) of results for a list (a generator or dataset).

        Raises:
            ValueError, TypeError, FileNotFoundError: as [`AudioLMProcessor`] and `AudioLMModel.generate` do.
        """
        if isinstance(inputs, list) and not inputs:
            raise ValueError("inputs is an empty list; give at least one prompt.")
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(
        self,
        sampling_rate: int | None = None,
        continuation_length_s: float | None = None,
        min_continuation_length_s: float | None = None,
        num_return_sequences: int | None = None,
        return_full_audio: bool | None = None,
        seed: int | None = None,
        generate_kwargs: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort the options into those of preprocessing, generation and postprocessing."""
        named = {
            "continuation_length_s": continuation_length_s,
            "min_continuation_length_s": min_continuation_length_s,
            "num_return_sequences": num_return_sequences,
            "seed": seed,
        }
        forward = {name: value for name, value in named.items() if value is not None}
        for name, value in (generate_kwargs or {}).items():
            if name in forward:
                raise ValueError(f"{name} is given twice, as an option and in generate_kwargs; give it once.")
            forward[name] = value
        if forward.get("num_return_sequences", 1) < 1:
            raise ValueError(f"num_return_sequences is {num_return_sequences}; give 1 or more.")
        preprocess = {} if sampling_rate is None else {"sampling_rate": sampling_rate}
        postprocess = {} if return_full_audio is None else {"return_full_audio": return_full_audio}
        return preprocess, forward, postprocess

    def preprocess(self, input_: Any, sampling_rate: int | None = None) -> dict[str, torch.Tensor]:
        """Read one prompt into `input_values` and `attention_mask`, both `(1, num_samples)`."""
        return dict(self.processor(audio=input_, sampling_rate=sampling_rate, return_tensors="pt"))

    def _forward(self, input_tensors: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
        """Generate; every tensor that comes back leads with `(batch, num_return_sequences)`."""
        batch = input_tensors["input_values"].shape[0]
        output = self.model.generate(**input_tensors, **options)
        # Transformers takes batches apart along the first axis, so the continuations of a prompt need their own.
        names = ("audio_values", "audio_lengths", "prompt_lengths")
        return {name: output[name].reshape(batch, -1, *output[name].shape[1:]) for name in names}

    def postprocess(
        self, model_outputs: dict[str, torch.Tensor], return_full_audio: bool = True
    ) -> AudioContinuation | list[AudioContinuation]:
        """Cut the continuations of one prompt to their own lengths."""
        rows = {name: tensor[0] for name, tensor in model_outputs.items()}
        clips = self.processor.batch_decode(rows, return_full_audio=return_full_audio)
        rate = self.processor.sampling_rate
        results: list[AudioContinuation] = [{"audio": clip, "sampling_rate": rate} for clip in clips]
        return results[0] if len(results) == 1 else results

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and the processor to one folder that `pipeline` loads again.

        Without code: `audiolm_hf.export_checkpoint` adds it for machines where the package is not installed. There,
        a pipeline that runs from such a folder saves the code again.

        Args:
            save_directory (`str` or `os.PathLike`): folder, made if it is not there.
            kwargs: as in `PreTrainedModel.save_pretrained`.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)
        if self.model._auto_class is not None:
            custom_object_save(self, save_directory)
            path = Path(save_directory) / "config.json"
            entry = {"impl": f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}", "pt": ["AutoModel"]}
            config = json.loads(path.read_text(encoding="utf-8")) | {"custom_pipelines": {TASK: entry}}
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["TASK", "AudioContinuation", "AudioContinuationPipeline", "check_same_rate"]
