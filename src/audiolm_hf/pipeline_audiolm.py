# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The pipeline of the task "audio-continuation": a prompt in, the prompt and its continuation out.

`modeling_audiolm.py` imports this file, so that it is saved with every checkpoint of the whole model.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from transformers.pipelines.base import Pipeline

from .audio_samples_audiolm import check_sampling_rate
from .config_values_audiolm import FLAG, MANY, Within, check_dtype
from .processing_audiolm import is_clip

TASK = "audio-continuation"
# The entry of `config.json` by which transformers finds the pipeline in a checkpoint's folder.
CUSTOM_PIPELINES = {TASK: {"impl": "pipeline_audiolm.AudioContinuationPipeline", "pt": ["AutoModel"]}}
_TOKENS = ("semantic_tokens", "semantic_attention_mask")  # inputs that generate checks itself


class AudioContinuation(TypedDict):
    """A result: `audio`, float32 of shape `(num_samples,)`, and its `sampling_rate` in Hz."""

    audio: np.ndarray
    sampling_rate: int


def check_same_rate(model: Any, processor: Any) -> None:
    """Check that the sampling rates of a processor and a model are equal."""
    if processor.sampling_rate != model.sampling_rate:
        raise ValueError(
            f"The processor works at {processor.sampling_rate} Hz and the model at {model.sampling_rate} Hz; use "
            f"AudioLMProcessor(AudioLMFeatureExtractor(sampling_rate={model.sampling_rate})), which resamples any "
            "audio."
        )


@dataclass
class Prompt:
    """A prompt with its `name` for error messages, and its `features` after it is read."""

    audio: Any
    name: str
    features: dict[str, Tensor] | None = None


class _PromptDataset(Dataset):
    def __init__(self, prompts: Any) -> None:
        self.prompts = prompts

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> Prompt:
        return _number(self.prompts[index], index)


def _number(audio: Any, index: int) -> Prompt:
    return Prompt(audio, f"inputs[{index}]" + (f" ({audio})" if isinstance(audio, str | os.PathLike) else ""))


def _number_all(prompts: Any) -> Iterator[Prompt]:
    """Number the prompts of a generator; an empty generator is an error."""
    index = -1
    for index, audio in enumerate(prompts):
        yield _number(audio, index)
    if index < 0:
        raise ValueError("inputs holds no prompt; give at least one.")


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
        processor ([`AudioLMProcessor`]): the processor.
        kwargs: defaults of the options of `__call__`; and `batch_size`, `device` and other options of
            `transformers.Pipeline`.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _load_video_processor = False

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        _check_loading(kwargs)
        check_dtype("dtype", kwargs.get("dtype"))  # transformers only warns of an unknown one
        if model.config.model_type != "audiolm":
            raise ValueError(f"The model is of type {model.config.model_type!r}; give one of type 'audiolm'.")
        super().__init__(model, *args, **kwargs)
        check_same_rate(self.model, self.processor)

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Continue one prompt, or each prompt of a list, generator or dataset.

        Args:
            inputs: a prompt in any form that [`AudioLMProcessor`] reads; or a list, tuple, column, generator or torch
                dataset of these. The prompts of a list are all checked before the first is continued.
            kwargs: options, all of them optional, as follows.
            sampling_rate (`int`, *optional*): sampling rate in Hz of prompts given as arrays.
            continuation_length_s (`float`, *optional*): maximum length of the continuation in seconds; by default that
                of the checkpoint.
            min_continuation_length_s (`float`, *optional*): minimum length in seconds; equal to
                `continuation_length_s` for an exact length.
            num_return_sequences (`int`, *optional*, defaults to 1): number of continuations of each prompt.
            return_full_audio (`bool`, *optional*, defaults to `True`): return the prompt and its continuation in one
                array, or only the continuation.
            seed (`int`, *optional*): random seed, which makes the result reproducible.
            batch_size (`int`, *optional*, defaults to 1): number of prompts per batch.
            generate_kwargs (`dict`, *optional*): any further option of `AudioLMModel.generate`, such as
                `semantic_temperature=0.9`, or `temperature=0.9` for all stages; also given as keywords.

        Returns:
            `{"audio": np.ndarray of shape (num_samples,) float32, "sampling_rate": int}`; a list of these if
            `num_return_sequences` is above 1; a list (an iterator) of results for a list (a generator or dataset).
        """
        _check_loading(kwargs)
        names = ("num_workers", "batch_size")
        options, *_ = self._sanitize_parameters(**{name: kwargs[name] for name in kwargs if name not in names})
        return super().__call__(self._read_inputs(inputs, self._preprocess_params | options), **kwargs)

    def stream(self, inputs: Any, *, chunk_s: float | None = None, **kwargs: Any) -> Iterator[AudioContinuation]:
        """Continue one prompt chunk by chunk.

        The chunks are the result of `__call__` with the same options and seed, bit for bit, in memory that does not
        grow with the length.

        Args:
            inputs: one prompt in any form that [`AudioLMProcessor`] reads.
            chunk_s (`float`, *optional*): length in seconds of each chunk but the last, see [`AudioLMModel.stream`].
            kwargs: options of `__call__` except `batch_size` and `num_workers`; one continuation only.

        Returns:
            `Iterator[dict]`: results as of `__call__`. The first is the prompt, unless `return_full_audio=False`.
        """
        preprocess, forward, postprocess = self._sanitize_parameters(**kwargs)
        features = self.preprocess(inputs, **(self._preprocess_params | preprocess))
        chunks = self.model.stream(**features, chunk_s=chunk_s, **(self._forward_params | forward))
        full = (self._postprocess_params | postprocess).get("return_full_audio", True)
        rate = self.processor.sampling_rate
        return (
            {"audio": chunk.float().cpu().numpy(), "sampling_rate": rate}
            for chunk in chain(features["input_values"] if full else (), chunks)
        )

    def _read_inputs(self, inputs: Any, options: dict[str, Any]) -> Any:
        """Convert prompts to the kinds of inputs that transformers supports: one, a list, a generator or a dataset."""
        if isinstance(inputs, Prompt):
            return inputs
        if is_clip(inputs):
            return Prompt(inputs, "")
        if isinstance(inputs, IterableDataset) or not hasattr(inputs, "__len__"):
            return _number_all(inputs)
        if len(inputs) == 0:
            raise ValueError(f"inputs is an empty {type(inputs).__name__}; give at least one prompt.")
        if isinstance(inputs, Dataset):
            return _PromptDataset(inputs)
        prompts = [_number(audio, index) for index, audio in enumerate(inputs)]
        return [Prompt(None, prompt.name, self.preprocess(prompt, **options)) for prompt in prompts]

    def _sanitize_parameters(
        self,
        sampling_rate: int | None = None,
        return_full_audio: bool | None = None,
        generate_kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        """Sort the options into those of preprocessing, generation and postprocessing, and check them."""
        forward = {name: value for name, value in options.items() if value is not None}
        if not isinstance(generate_kwargs, dict | None):
            raise TypeError(f"generate_kwargs is a {type(generate_kwargs).__name__}; give a dict of options.")
        for name, value in (generate_kwargs or {}).items():
            if name in forward:
                raise ValueError(f"{name} is given twice, as an option and in generate_kwargs; give it once.")
            forward[name] = value
        return_full_audio = FLAG.check("return_full_audio", return_full_audio, optional=True)
        for name in ("input_values", "attention_mask", "batch_size"):
            if name in forward:
                raise ValueError(f"{name} is not an option of generation in a pipeline, which sets it; leave it out.")
        together = getattr(self, "_forward_params", {}) | forward
        self.model.check_generate_options(**{name: together[name] for name in together if name not in _TOKENS})
        preprocess = {} if sampling_rate is None else {"sampling_rate": check_sampling_rate(sampling_rate)}
        postprocess = {} if return_full_audio is None else {"return_full_audio": return_full_audio}
        return preprocess, forward, postprocess

    def preprocess(self, input_: Any, sampling_rate: int | None = None) -> dict[str, Tensor]:
        """Read a prompt into `input_values` and `attention_mask`, both `(1, num_samples)`."""
        prompt = input_ if isinstance(input_, Prompt) else Prompt(input_, "")
        if prompt.features is not None:
            return prompt.features
        try:
            if not is_clip(prompt.audio):
                raise TypeError(f"a prompt is of type {type(prompt.audio).__name__}; give one clip, not several.")
            features = self.processor(audio=prompt.audio, sampling_rate=sampling_rate, return_tensors="pt")
            length_s = features["input_values"].shape[-1] / self.processor.sampling_rate
            if length_s < self.model.min_prompt_s:
                raise ValueError(f"The audio lasts {length_s:.3f} s; give at least {self.model.min_prompt_s:.3f} s.")
        except (FileNotFoundError, PermissionError, TypeError, ValueError) as error:
            if not prompt.name:
                raise
            raise type(error)(f"{prompt.name}: {error}") from error
        # There is no padding. The mask is expanded, not filled, because a prompt may last hours.
        mask = torch.ones(1, 1, dtype=torch.long, device="cpu").expand_as(features["input_values"])
        return {**features, "attention_mask": mask}

    def _forward(self, input_tensors: dict[str, Tensor], **options: Any) -> dict[str, Tensor]:
        """Generate continuations; the first axes of all results are `(batch, num_return_sequences)`."""
        batch = input_tensors["input_values"].shape[0]
        output = self.model.generate(**input_tensors, **options)
        # transformers splits batches along the first axis, so the continuations of a prompt need a separate axis.
        names = ("audio_values", "audio_lengths", "prompt_lengths")
        return {name: output[name].reshape(batch, -1, *output[name].shape[1:]) for name in names}

    def postprocess(
        self, model_outputs: dict[str, Tensor], return_full_audio: bool = True
    ) -> AudioContinuation | list[AudioContinuation]:
        """Trim the continuations of a prompt to their lengths."""
        rows = {name: tensor[0] for name, tensor in model_outputs.items()}
        clips = self.processor.batch_decode(rows, return_full_audio=return_full_audio)
        rate = self.processor.sampling_rate
        results: list[AudioContinuation] = [{"audio": clip, "sampling_rate": rate} for clip in clips]
        return results[0] if len(results) == 1 else results

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Save the model and the processor to a folder that `pipeline` can load.

        `audiolm_hf.export_checkpoint` also saves the code, for machines where the package is not installed.
        """
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory)


def _check_loading(options: dict[str, Any]) -> None:
    """Check, in place, the options of a pipeline that transformers does not check."""
    allowed = {"batch_size": MANY, "num_workers": Within(0, math.inf, whole=True), "binary_output": FLAG}
    for name in allowed.keys() & options.keys():
        options[name] = allowed[name].check(name, options[name], optional=name != "binary_output")
