# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Teach a checkpoint one new voice, or one new instrument, with a few minutes of it: LoRA on any of its stages.

In: a checkpoint and recordings; they become tokens by the checkpoint's own tokenizers, and each stage's adapter is
trained like a stage (`stages.py`), its base frozen. Out, in `output_folder`: `adapter/`, which loads like a
checkpoint (`adapters_audiolm.py`), and for each stage a folder with checkpoints and a report.

Paper: LoRA (arXiv 2106.09685), on the stages of AudioLM (arXiv 2209.03143).
"""

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, set_seed

from audiolm_hf.adapter_folder_audiolm import AdapterInfo, fingerprint
from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.crops import validation_batches
from audiolm_hf.data.tokenization import tokenize_recordings
from audiolm_hf.data.tokenizers import TokenizerPair
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.data.voice import read_voice, recording_name, split_voice
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageModel
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.run_folder import replace_folder
from audiolm_hf.settings import (
    Count,
    CountOrNone,
    Decay,
    Filled,
    LearningRate,
    NamedInput,
    OutputPath,
    Positive,
    Seed,
    Settings,
    Share,
    Use,
)
from audiolm_hf.stage_adapters_audiolm import base_name
from audiolm_hf.training.config import DataFolder, Recordings
from audiolm_hf.training.run import one_run
from audiolm_hf.training.stages.bits import stage_bits
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.training import train_stage

_WEIGHTS_FILE = "adapter_model.safetensors"


@dataclass
class VoiceDataConfig(Settings):
    """Which recordings are the voice, and how much of them is learned from.

    Args:
        folder (`str`): folder of the data; given on the command line as `data.folder=...`.
        recordings (`list[str]`): parquet files, folders of sound files or lists, relative to `folder`.
        speaker (`str`, *optional*): label of the speaker in them; without it, all recordings are one voice.
        train_minutes (`float`, defaults to 5.0): the first recordings, about so many minutes, are learned from.
        validation_minutes (`float`, defaults to 1.0): the next ones choose the best checkpoint. All others are not
            touched, and `audiolm-hf evaluate voice` judges by them.
    """

    folder: DataFolder
    recordings: Annotated[Recordings, Filled()]
    speaker: str | None = None
    train_minutes: Positive = 5.0
    validation_minutes: Positive = 1.0


@dataclass
class LoraStageConfig(Settings):
    """The adapter of one stage and its training.

    Args:
        rank (`int`, defaults to 16): of the change of each weight matrix.
        alpha (`int`, *optional*): the change is scaled by `alpha / rank`; by default twice the rank.
        dropout (`float`, defaults to 0.0): of the adapter's input, 0 to 1.
        target_modules (`list[str]`, *optional*): names of the layers it changes; by default all linear ones but the
            head, whose weights are also the embeddings.
        max_steps (`int`, defaults to 300): optimizer steps.
        batch_tokens (`int`, defaults to 4096): most ids per batch, padding included.
        learning_rate (`float`, defaults to 1e-3): peak; a cosine takes it down to a hundredth.
        warmup_steps (`int`, defaults to 20): steps of linear rise before.
        weight_decay (`float`, defaults to 0.0): of AdamW, on the adapter.
        corruption (`float`, defaults to 0.0): share of input ids replaced at random, 0 to 1.
        evaluation_steps (`int`, defaults to 50): steps between validations and checkpoints.
        patience (`int`, *optional*): stop after so many validations without improvement.
    """

    rank: Annotated[int, Within(1, 2**16, whole=True)] = 16
    alpha: Count | None = None
    dropout: Annotated[float, Within(0, 1, below=True)] = 0.0
    target_modules: Annotated[list[str], Filled()] | None = None
    max_steps: Count = 300
    batch_tokens: Count = 4096
    learning_rate: LearningRate = 1e-3
    warmup_steps: CountOrNone = 20
    weight_decay: Decay = 0.0
    corruption: Share = 0.0
    evaluation_steps: Count = 50
    patience: Count | None = None


@dataclass
class LoraTrainingConfig(Settings):
    """What the adaptation of a checkpoint needs.

    Args:
        base (`str`): checkpoint to adapt: short name of a bundled one, folder, or name on the Hub.
        output_folder (`str`): where everything goes; a training found there is resumed.
        data ([`VoiceDataConfig`]): the recordings.
        semantic ([`LoraStageConfig`], *optional*): adapt the semantic stage.
        coarse ([`LoraStageConfig`], *optional*): adapt the coarse stage.
        fine ([`LoraStageConfig`], *optional*): adapt the fine stage.
        quantization (`"none"`, `"8bit"` or `"4bit"`, defaults to `"none"`): how the base's weights are held while
            training; needs bitsandbytes and an accelerator.
        bf16 (`bool`, defaults to `True`): compute in bfloat16 where it is safe; weights stay float32.
        use_cpu (`bool`, defaults to `False`): stay on the CPU even where there is an accelerator.
        seed (`int`, defaults to 0): of adapters, crops and order.
    """

    base: NamedInput
    output_folder: OutputPath
    data: VoiceDataConfig
    semantic: LoraStageConfig | None = None
    coarse: LoraStageConfig | None = None
    fine: LoraStageConfig | None = None
    quantization: Literal["none", "8bit", "4bit"] = "none"
    bf16: bool = True
    use_cpu: Annotated[bool, Use.FREE] = False
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.stages:
            raise ValueError("No stage is to be adapted; give one or more of the keys semantic, coarse, fine.")

    @property
    def stages(self) -> dict[str, LoraStageConfig]:
        """The stages to adapt, in the order in which they generate."""
        all_stages = {"semantic": self.semantic, "coarse": self.coarse, "fine": self.fine}
        return {name: stage for name, stage in all_stages.items() if stage is not None}


@one_run("lora", "adapter")
def train_lora(config: LoraTrainingConfig) -> None:
    """Adapt the stages of a checkpoint, or resume that.

    Args:
        config ([`LoraTrainingConfig`]): everything.

    Returns:
        `Path`: the adapter folder, `output_folder/adapter`.

    Raises:
        ImportError: the base is to be quantised, and bitsandbytes is not installed.
        ValueError: the recordings are too short, layers are not found, the folder holds another training, or there is
            no accelerator to quantise on.
    """
    processes = PartialState(cpu=config.use_cpu or not torch.accelerator.is_available())
    quantization = quantization_config(config.quantization, config.use_cpu)
    output = Path(config.output_folder)
    folder = resolve_checkpoint(config.base)
    base = AudioLMModel.from_pretrained(folder, dtype="float32")
    info = AdapterInfo(
        base_name(folder, output / "adapter"), {name: fingerprint(base.stages[name]) for name in config.stages}
    )
    with processes.main_process_first():
        recordings = prepare_tokens(config, base, output)
    info = AdapterInfo(info.base, info.stages, recordings)
    if quantization is not None:
        base = AudioLMModel.from_pretrained(folder, quantization_config=quantization)
    report = {name: train_adapter(config, name, base.stages[name], info.base) for name in config.stages}
    if processes.is_main_process:
        (output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        write_adapter(output, base, AudioLMProcessor.from_pretrained(folder), info)
    processes.wait_for_everyone()


def quantization_config(quantization: str, use_cpu: bool = False) -> BitsAndBytesConfig | None:
    """Translate the key `quantization` for transformers; only the layers inside the stages are quantised.

    Args:
        quantization (`"none"`, `"8bit"` or `"4bit"`): how.
        use_cpu (`bool`, defaults to `False`): the training stays on the CPU.

    Returns:
        `transformers.BitsAndBytesConfig`, or `None` for `"none"`.

    Raises:
        ImportError: bitsandbytes is not installed.
        ValueError: there is no accelerator.
    """
    if quantization == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(
            f"quantization is {quantization!r}, which needs bitsandbytes: pip install bitsandbytes, or set "
            "quantization: none."
        )
    if use_cpu or not torch.accelerator.is_available():
        raise ValueError(
            f"quantization is {quantization!r} and the training would run on the CPU; quantised weights are trained "
            "on an accelerator only. Set quantization: none."
        )
    kept = ["semantic_tokenizer", "codec", "lm_head"]
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=kept,
    )


def prepare_tokens(config: LoraTrainingConfig, base: AudioLMModel, output: Path) -> dict[str, Any]:
    """Choose the recordings, copy them to `recordings/` and turn them into `tokens/`, each `train` and `validation`.

    Args:
        config ([`LoraTrainingConfig`]): names the recordings.
        base ([`AudioLMModel`]): its tokenizers are used.
        output (`Path`): receives the folders; what is there already is kept.

    Returns:
        `dict`: which recordings were chosen, for [`AdapterInfo`].
    """
    data = config.data
    source = AudioSource([Path(data.folder) / name for name in data.recordings], base.sampling_rate)
    split = split_voice(read_voice(source, data.speaker), data.train_minutes, data.validation_minutes)
    tokenizers = TokenizerPair(base.semantic_tokenizer, base.acoustic_codec)
    for name, records in (("train", split.train), ("validation", split.validation)):
        copies = list_clips(_copy_recordings(records, output / "recordings" / name))
        tokenize_recordings(copies, lambda: tokenizers, output / "tokens" / name)
    return {
        "speaker": data.speaker,
        "train_minutes": round(sum(record.duration for record in split.train) / 60, 2),
        "validation_minutes": round(sum(record.duration for record in split.validation) / 60, 2),
        "train": [recording_name(record) for record in split.train],
        "validation": [recording_name(record) for record in split.validation],
    }


def _copy_recordings(records: list[AudioRecord], folder: Path) -> Path:
    """Write recordings to FLAC files, so that anyone can hear what was learned from."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        path = folder / f"{number:05d}.flac"
        if not path.exists():
            write_audio(path, record.array, record.sampling_rate)
    return folder


def adapt_stage(stage: AudioLMStageModel, config: LoraStageConfig, seed: int) -> PeftModel:
    """Freeze a stage and put a fresh adapter on it, which changes nothing yet.

    Args:
        stage ([`AudioLMStageModel`]): changed in place.
        config ([`LoraStageConfig`]): what the adapter is like.
        seed (`int`): of the adapter's first weights.

    Returns:
        `peft.PeftModel`: the stage inside.

    Raises:
        ValueError: a layer to change is not there, or is the head or the embeddings, which share their weights.
    """
    shared = sorted({"lm_head", "embed_tokens"} & set(config.target_modules or ()))
    if shared and stage.config.tie_word_embeddings:
        raise ValueError(
            f"target_modules names {', '.join(shared)}; head and embeddings of this stage are one matrix, which an "
            "adapter would tear apart. Leave them out."
        )
    set_seed(seed)
    stage.name_or_path = ""  # or PEFT would look for the stage on the Hub whenever it saves
    if stage_is_quantized(stage):
        stage = prepare_model_for_kbit_training(stage, use_gradient_checkpointing=False)
    return get_peft_model(
        stage,
        LoraConfig(
            r=config.rank,
            lora_alpha=2 * config.rank if config.alpha is None else config.alpha,
            lora_dropout=config.dropout,
            target_modules=config.target_modules or "all-linear",
        ),
    )


def stage_is_quantized(stage: AudioLMStageModel) -> bool:
    """Say whether weights of a stage are held in 8 or 4 bits."""
    return any(not weight.is_floating_point() for weight in stage.parameters())


def train_adapter(
    config: LoraTrainingConfig, name: str, stage: AudioLMStageModel, base: str
) -> dict[str, dict[str, Any]]:
    """Train the adapter of one stage on the prepared tokens, into `output_folder/<stage>`.

    Args:
        config ([`LoraTrainingConfig`]): everything.
        name (`str`): of the stage.
        stage ([`AudioLMStageModel`]): adapted in place.
        base (`str`): name of its checkpoint.

    Returns:
        `dict`: bits per token on the validation recordings `before` and `after`.
    """
    output = Path(config.output_folder)
    lora = config.stages[name]
    adapted = adapt_stage(stage, lora, config.seed)
    validation = TokenDataset(output / "tokens" / "validation")
    batches = validation_batches(validation, stage.config, lora.batch_tokens)
    before = stage_bits(adapted, batches)
    train_stage(
        StageTrainingConfig(
            stage=name,  # type: ignore[arg-type]
            output_folder=str(output / name),
            train_tokens=[str(output / "tokens" / "train")],
            validation_tokens=[str(output / "tokens" / "validation")],
            window_length_s=stage.config.window_length_s,
            initial_weights=base,
            batch_tokens=lora.batch_tokens,
            max_steps=lora.max_steps,
            learning_rate=lora.learning_rate,
            warmup_steps=lora.warmup_steps,
            weight_decay=lora.weight_decay,
            corruption=lora.corruption,
            evaluation_steps=min(lora.evaluation_steps, lora.max_steps),
            patience=lora.patience,
            bf16=config.bf16,
            use_cpu=config.use_cpu,
            seed=config.seed,
        ),
        adapted,
    )
    trainable, total = adapted.get_nb_trainable_parameters()
    return {
        "before": before,
        "after": stage_bits(adapted, batches),
        "parameters": {"adapter": trainable, "stage": total - trainable},
    }


def write_adapter(output: Path, base: AudioLMModel, processor: AudioLMProcessor, info: AdapterInfo) -> None:
    """Put the trained adapters of all stages into one folder, `output/adapter`, whole or not at all.

    Args:
        output (`Path`): folder of the training.
        base ([`AudioLMModel`]): the checkpoint.
        processor ([`AudioLMProcessor`]): of the checkpoint.
        info ([`AdapterInfo`]): what goes in beside the adapters.
    """
    config = type(base.config).from_dict(base.config.to_dict())

    def write(unfinished: Path) -> None:
        for stage in info.stages:
            (unfinished / stage).mkdir()
            shutil.copyfile(output / stage / "final" / _WEIGHTS_FILE, unfinished / stage / _WEIGHTS_FILE)
            adapter_config = PeftConfig.from_pretrained(str(output / stage / "final"))
            adapter_config.base_model_name_or_path = info.base
            adapter_config.save_pretrained(unfinished / stage)
        config.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
        info.save(unfinished)

    replace_folder(output / "adapter", write)


__all__ = [
    "LoraStageConfig",
    "LoraTrainingConfig",
    "VoiceDataConfig",
    "adapt_stage",
    "prepare_tokens",
    "quantization_config",
    "stage_is_quantized",
    "train_adapter",
    "train_lora",
    "write_adapter",
]
