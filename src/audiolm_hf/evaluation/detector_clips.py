# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The clips that a detector of a checkpoint's audio is trained and evaluated on.

Generated clips are continuations, cut from their prompts, and samples without a prompt. Real ones are recordings as
they are, resynthesized by the codec, and resynthesized from its coarse levels alone, so that traces of the codec do
not tell the classes apart.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.utils.rnn import pad_sequence
from transformers.utils import logging

from audiolm_hf.codec_interface_audiolm import AcousticCodec
from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import AudioRecord, AudioSource, to_int16
from audiolm_hf.evaluation.protocols.continuation import continue_prompts, resynthesize
from audiolm_hf.files import write_tensors
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_detector_audiolm import REAL as REAL_LABEL
from audiolm_hf.modeling_detector_audiolm import AudioLMDetectorForAudioClassification
from audiolm_hf.progress import progress_bar
from audiolm_hf.settings import BatchSize, Count, CountOrNone, Seconds, Seed, Settings, Share

logger = logging.get_logger(__name__)

GENERATED = ("continuation", "unconditional")
REAL = ("real", "codec", "coarse")
_DIGEST = "sha256"  # of a file's clips, beside them
_BATCH = 16  # clips that are scored at once
LEAD_S = 0.5  # decoded before a real clip and dropped, so that a codec's start from silence does not mark real audio
_Temperature = Annotated[float, Within(0, 10, above=True)]


@dataclass
class DetectorClipsConfig(Settings):
    """What is generated for a detector, and what is taken from recordings."""

    # continuations of excerpts of the recordings; only what was generated is used
    num_continuations: CountOrNone = 400
    num_unconditional: CountOrNone = 100  # samples without a prompt
    num_real: Count = 400  # excerpts of the recordings, each used as it is and through the codec
    # shortest and longest length in seconds of all of these
    length_s: list[Seconds] = field(default_factory=lambda: [3.0, 7.0])
    # shortest and longest length of a prompt in seconds
    prompt_length_s: list[Seconds] = field(default_factory=lambda: [1.0, 4.0])
    # lowest and highest temperature of all stages. Every second batch keeps the temperatures of the checkpoint.
    temperature: list[_Temperature] = field(default_factory=lambda: [0.7, 1.1])
    # lowest and highest `room_noise`; every second batch keeps that of the checkpoint
    room_noise: list[Share] = field(default_factory=lambda: [0.0, 0.5])
    dynamics: list[Share] = field(default_factory=lambda: [0.0, 1.0])  # the same for `dynamics`
    # values of the option `acoustic_mode` of `generate` to draw from; by default all that the checkpoint has
    acoustic_modes: list[Literal["hierarchical", "parallel"]] = field(default_factory=list)
    batch_size: BatchSize = 8  # clips that are generated at once
    seed: Seed = 0  # random seed

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("length_s", "prompt_length_s", "temperature", "room_noise", "dynamics"):
            check_range(name, getattr(self, name))
        if not self.num_continuations + self.num_unconditional:
            raise ValueError("num_continuations and num_unconditional are 0; ask for generated clips.")


def check_range(name: str, values: list[float]) -> None:
    """Check that a list holds a lowest and a highest value."""
    if len(values) != 2 or values[0] > values[1]:
        raise ValueError(f"{name} is {values}; give the lowest and the highest value, such as [1.0, 4.0].")


def draw(rng: np.random.Generator, bounds: list[float]) -> float:
    """Return a random number between the lowest and the highest value."""
    return float(rng.uniform(bounds[0], bounds[1]))


def excerpts(
    source: AudioSource, count: int, least_s: float, length_s: list[float], rng: np.random.Generator
) -> list[AudioRecord]:
    """Return random excerpts, of different recordings as far as there are enough.

    Args:
        source ([`AudioSource`]): the recordings; those that cannot be decoded are left out.
        count (`int`): number of excerpts.
        least_s (`float`): seconds of the shortest recording that is used.
        length_s (`list[float]`): range of the lengths; a shorter recording is used whole.
        rng (`np.random.Generator`): draws recordings, lengths and places.

    Raises:
        ValueError: no recording is long enough and can be decoded.
    """
    places = [place for place in rng.permutation(len(source)) if source.durations[place] >= least_s]
    found: list[AudioRecord] = []
    while len(found) < count and places:
        for place in list(places[: count - len(found)]):
            length = round(draw(rng, length_s) * source.sampling_rate)
            try:
                record = source[place]
            except ValueError as error:
                logger.warning(f"Left out {error}")
                places.remove(place)
                continue
            start = int(rng.integers(max(1, len(record.array) - length + 1)))
            found.append(replace(record, array=record.array[start : start + length]))
    if not places:
        raise _too_short(source, least_s)
    return found


def check_lengths(source: AudioSource, config: DetectorClipsConfig) -> None:
    """Check that a recording is long enough for real clips, which are made after generated ones."""
    least_s = config.length_s[0] + LEAD_S
    if source.durations.max() < least_s:
        raise _too_short(source, least_s)


def _too_short(source: AudioSource, least_s: float) -> ValueError:
    return ValueError(
        f"No recording lasts {least_s:.1f} s (the longest {source.durations.max():.1f} s), or none can be read; give "
        "longer recordings, or ask for shorter clips."
    )


def generate_clips(
    model: AudioLMModel, source: AudioSource, config: DetectorClipsConfig, group: str, index: int, count: int
) -> list[np.ndarray]:
    """Generate batch `index` of a group of `GENERATED`, `count` clips of one length, each `(num_samples,)`."""
    rng = np.random.default_rng([config.seed, GENERATED.index(group), index])
    length_s, temperature = draw(rng, config.length_s), draw(rng, config.temperature)
    options: dict[str, Any] = {}
    if index % 2 == 0:
        own = np.random.default_rng([config.seed, GENERATED.index(group), index, 1])
        options = {name: draw(own, getattr(config, name)) for name in ("room_noise", "dynamics")}
        options["temperature"] = temperature
    options["acoustic_mode"] = str(rng.choice(config.acoustic_modes or list(model.config.acoustic_modes)))
    seed, prompt_s = int(rng.integers(2**31)), min(draw(rng, config.prompt_length_s), source.durations.max())
    if group == "unconditional":
        made = continue_prompts(model, None, length_s, seed, batch_size=count, **options)
    else:
        prompts = excerpts(source, count, prompt_s, [prompt_s, prompt_s], rng)
        shortest = min(len(prompt.array) for prompt in prompts)  # a header may state a sample more than there is
        made = continue_prompts(
            model, np.stack([each.array[:shortest] for each in prompts]), length_s, seed, **options
        )
    return [clip for clips in made for clip in clips]


@torch.inference_mode()
def real_clips(
    model: AudioLMModel,
    source: AudioSource,
    config: DetectorClipsConfig,
    index: int,
    count: int,
    least_s: float | None = None,
) -> dict[str, list[AudioRecord]]:
    """Return batch `index` of real clips by the groups of `REAL`; "coarse" is left out if all levels are coarse ones.

    Clips can be as short as `least_s`, by default the shortest length of `config`, where recordings are that short.
    """
    rng = np.random.default_rng([config.seed, len(GENERATED), index])
    lead = round(LEAD_S * source.sampling_rate)
    lengths = [length + LEAD_S for length in config.length_s]
    records = excerpts(source, count, lengths[0] if least_s is None else least_s + LEAD_S, lengths, rng)
    coarse = min(count for stage in model.config.stage_configs.values() if (count := stage.num_stage_codebooks))
    levels = {"codec": model.acoustic_codec.num_codebooks, "coarse": coarse}
    if coarse == levels["codec"]:
        del levels["coarse"]
    made = [resynthesize(model, each.array, *levels.values()) for each in records]
    copies = {name: [arrays[place] for arrays in made] for place, name in enumerate(levels)}
    groups = {"real": records} | {
        name: [replace(each, array=array) for each, array in zip(records, arrays, strict=True)]
        for name, arrays in copies.items()
    }
    return {name: [replace(each, array=each.array[lead:]) for each in group] for name, group in groups.items()}


@torch.inference_mode()
def through_codec(codec: AcousticCodec, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return int16 clips decoded from their codes, without the first `LEAD_S` seconds."""
    lead, made = round(LEAD_S * codec.sampling_rate), []
    for clip in progress_bar(clips, desc="through codec", unit="clip"):
        codes = codec.encode(torch.from_numpy(clip.astype(np.float32) / 32767.0)[None].to(codec.model.device))
        made.append(to_int16(codec.decode(codes)[0, lead : len(clip)].float().cpu().numpy()))
    return made


def batches(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Return the number and the size of each batch."""
    return ((index, min(size, total - start)) for index, start in enumerate(range(0, total, size)))


def write_clips(model: AudioLMModel, source: AudioSource, config: DetectorClipsConfig, folder: Path) -> None:
    """Write all clips to a folder, a file for every batch; files that are there are kept."""

    def write(clips: dict[str, list[np.ndarray]], path: Path) -> None:
        numbered = ((f"{name}.{place}", clip) for name, group in clips.items() for place, clip in enumerate(group))
        tensors = {key: torch.from_numpy(to_int16(clip)) for key, clip in numbered}
        write_tensors(path, tensors | {_DIGEST: _digest(tensors, config, path)})

    for name, index, count in progress_bar(_planned(config), desc=folder.name, unit="batch"):
        path = _batch_file(folder, name, index)
        if path.is_file():
            continue
        if name == "real":
            records = real_clips(model, source, config, index, count)
            write({group: [each.array for each in clips] for group, clips in records.items()}, path)
        else:
            write({name: generate_clips(model, source, config, name, index, count)}, path)


def _planned(config: DetectorClipsConfig) -> list[tuple[str, int, int]]:
    """Return the kind, the number and the size of every batch."""
    totals = {
        "continuation": config.num_continuations,
        "unconditional": config.num_unconditional,
        "real": config.num_real,
    }
    return [(name, *batch) for name, total in totals.items() for batch in batches(total, config.batch_size)]


def _batch_file(folder: Path, name: str, index: int) -> Path:
    return folder / f"{name}-{index:05d}.safetensors"


def _digest(tensors: dict[str, torch.Tensor], config: DetectorClipsConfig, path: Path) -> torch.Tensor:
    """Return the SHA-256 of a batch's clips and of the configuration that they were made by."""
    digest = hashlib.sha256(f"{path.name} {config}".encode())
    for key in sorted(tensors):
        digest.update(key.encode() + tensors[key].numpy().tobytes())
    return torch.tensor(list(digest.digest()), dtype=torch.uint8)


def read_clips(folder: Path, config: DetectorClipsConfig) -> dict[str, list[np.ndarray]]:
    """Read the clips of [`write_clips`] by group, int16 of shape `(num_samples,)`, in their order.

    Raises:
        ValueError: a file is damaged, or not the one that was written.
    """
    groups: dict[str, list[np.ndarray]] = {}
    for name, index, _ in sorted(_planned(config)):
        path = _batch_file(folder, name, index)
        try:
            tensors = load_file(path)
            written = tensors.pop(_DIGEST)
        except (KeyError, OSError, SafetensorError):
            tensors, written = {}, torch.zeros(0)
        if not torch.equal(written, _digest(tensors, config, path)):
            raise ValueError(f"{path} is damaged or another file; remove it, and run the same command again.")
        for key in sorted(tensors, key=lambda key: int(key.rpartition(".")[2])):
            groups.setdefault(key.rpartition(".")[0], []).append(tensors[key].numpy())
    return groups


def pad_clips(clips: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
    """Return float32 clips `(num_samples,)` as a padded batch: `input_values` and `attention_mask`."""
    rows = [torch.from_numpy(clip) for clip in clips]
    ones = [torch.ones(len(row), dtype=torch.long) for row in rows]
    pad = partial(pad_sequence, batch_first=True)
    return {"input_values": pad(rows), "attention_mask": pad(ones)}


@torch.inference_mode()
def score_clips(detector: AudioLMDetectorForAudioClassification, clips: Sequence[np.ndarray]) -> list[float]:
    """Return the scores of float32 clips `(num_samples,)`: the probability that they are real."""
    scores: list[float] = []
    for start in range(0, len(clips), _BATCH):
        batch = pad_clips(clips[start : start + _BATCH])
        logits = detector(**{name: values.to(detector.device) for name, values in batch.items()}).logits
        scores += logits.softmax(-1)[:, REAL_LABEL].tolist()
    return scores
