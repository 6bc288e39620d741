# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Adapt a checkpoint to a voice or an instrument with LoRA on any of its stages.

The recordings are tokenized by the checkpoint's tokenizers, and the adapter of each stage is trained like a stage with
a frozen base. In `output_folder`: `adapter/`, one PEFT adapter of the whole model, and a folder for each stage.

Paper: LoRA (arXiv 2106.09685), on the stages of AudioLM (arXiv 2209.03143).
"""

import copy
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from accelerate import PartialState
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.utils import load_peft_weights, set_peft_model_state_dict
from transformers import BitsAndBytesConfig, set_seed

from audiolm_hf.adapters_audiolm import ADAPTER_FILE, find_base
from audiolm_hf.audio_file_audiolm import write_audio
from audiolm_hf.bundled import resolve_checkpoint
from audiolm_hf.config_values_audiolm import Within
from audiolm_hf.data.audio import AudioSource
from audiolm_hf.data.clips import list_clips
from audiolm_hf.data.crops import validation_batches
from audiolm_hf.data.tokenization import tokenize_recordings
from audiolm_hf.data.tokenizers import TokenizerPair
from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.data.voice import read_voice, recording_name, split_voice
from audiolm_hf.files import replace_folder, write_json
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMStageBase
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.settings import (
    FILLED,
    Count,
    CountOrNone,
    LearningRate,
    NamedInput,
    OutputPath,
    PartialShare,
    Positive,
    Seed,
    Settings,
    Use,
)
from audiolm_hf.training.config import DataFolder, Recordings, ordered_stages
from audiolm_hf.training.run import one_run
from audiolm_hf.training.stages.bits import stage_bits
from audiolm_hf.training.stages.config import StageTrainingConfig
from audiolm_hf.training.stages.training import train_stage


@dataclass
class VoiceDataConfig(Settings):
    """Recordings of a voice."""

    folder: DataFolder  # folder of the data, usually set on the command line as `data.folder=...`
    recordings: Annotated[Recordings, FILLED]  # parquet files, folders or manifests, relative to `folder`
    speaker: str | None = None  # label of the speaker; by default all recordings are used
    train_minutes: Positive = 5.0  # approximate minutes of training data, from the first recordings
    # approximate minutes of validation data, from the next recordings. All others are held out for `audiolm-hf
    # evaluate voice`.
    validation_minutes: Positive = 1.0


@dataclass
class LoraStageConfig(Settings):
    """Configuration of the adapter of a stage and its training."""

    # rank of the adapter of each linear layer except the head; its scale is 2
    rank: Annotated[int, Within(1, 2**16, whole=True)] = 16
    dropout: PartialShare = 0.0  # dropout of the adapter's input, 0 to 1
    max_steps: Count = 300  # number of optimizer steps
    batch_tokens: Count = 4096  # maximum number of ids per batch, including padding
    learning_rate: LearningRate = 1e-3  # peak learning rate; it decays to 1 % along a cosine
    warmup_steps: CountOrNone = 20  # steps of linear warmup
    corruption: PartialShare = 0.0  # share of input ids that are replaced at random, 0 to 1
    eval_steps: Count = 50  # steps between validations and checkpoints
    patience: Count | None = None  # number of validations without improvement after which the training stops


@dataclass
class LoraTrainingConfig(Settings):
    """Configuration of the adaptation of a checkpoint."""

    base: NamedInput  # checkpoint to adapt: name of a bundled checkpoint, folder, or name on the Hub
    output_folder: OutputPath  # output folder; a run in this folder is resumed
    data: VoiceDataConfig  # the recordings
    stages: Annotated[dict[str, LoraStageConfig], FILLED]  # adapters of the stages by name
    # quantization of the base during training; requires bitsandbytes and an accelerator
    quantization: Literal["none", "8bit", "4bit"] = "none"
    bf16: bool = True  # compute in bfloat16 where it is safe; weights stay float32
    use_cpu: Annotated[bool, Use.FREE] = False  # use the CPU even if there is an accelerator
    seed: Seed = 0  # random seed of adapters, crops and order

    def __post_init__(self) -> None:
        super().__post_init__()
        self.stages = ordered_stages(self.stages)


@one_run("lora", "adapter")
def train_lora(config: LoraTrainingConfig) -> None:
    """Adapt the stages of a checkpoint, or resume the training."""
    processes = PartialState(cpu=config.use_cpu or not torch.accelerator.is_available())
    quantization = quantization_config(config.quantization, config.use_cpu)
    output, folder = Path(config.output_folder), resolve_checkpoint(config.base)
    base = AudioLMModel.from_pretrained(folder, dtype="float32")
    for name in config.stages:
        if name not in base.stages:
            raise ValueError(f"{config.base} has no {name} stage, only {', '.join(base.stages)}; leave the key out.")
    with processes.main_process_first():
        recordings = prepare_tokens(config, base, output)
    if quantization is not None:
        base = AudioLMModel.from_pretrained(folder, quantization_config=quantization)
    report = {name: train_adapter(config, name, base.stages[name]) for name in config.stages}
    if processes.is_main_process:
        write_json(output / "report.json", report)
        finals = {name: output / name / "final" for name in config.stages}
        replace_folder(output / "adapter", lambda unfinished: join_adapters(folder, finals, unfinished, recordings))
    processes.wait_for_everyone()


def quantization_config(quantization: str, use_cpu: bool = False) -> BitsAndBytesConfig | None:
    """Return transformers' configuration of `quantization`, which excludes the tokenizer, the codec and the heads."""
    if quantization == "none":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError(f"quantization is {quantization!r}, which needs bitsandbytes: pip install bitsandbytes.")
    if use_cpu or not torch.accelerator.is_available():
        raise ValueError(f"quantization is {quantization!r}, which needs an accelerator; set quantization: none.")
    return BitsAndBytesConfig(
        load_in_8bit=quantization == "8bit",
        load_in_4bit=quantization == "4bit",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["semantic_tokenizer", "codec", "lm_head"],
    )


def prepare_tokens(config: LoraTrainingConfig, base: AudioLMModel, output: Path) -> dict[str, Any]:
    """Select recordings, copy them to `recordings/` and tokenize them into `tokens/`; return what was selected."""
    data = config.data
    source = AudioSource([Path(data.folder) / name for name in data.recordings], base.sampling_rate)
    chosen = split_voice(read_voice(source, data.speaker), data.train_minutes, data.validation_minutes)
    tokenizers = TokenizerPair.of(base)
    notes: dict[str, Any] = {"speaker": data.speaker}
    for name, records in zip(("train", "validation"), chosen, strict=True):
        folder = output / "recordings" / name
        folder.mkdir(parents=True, exist_ok=True)
        for number, record in enumerate(records):
            if not (path := folder / f"{number:05d}.flac").exists():
                write_audio(path, record.array, record.sampling_rate)
        tokenize_recordings(list_clips(folder), lambda: tokenizers, output / "tokens" / name)
        notes[f"{name}_minutes"] = round(sum(record.duration for record in records) / 60, 2)
        notes[name] = [recording_name(record) for record in records]
    return notes


def adapt_stage(stage: AudioLMStageBase, config: LoraStageConfig, seed: int) -> PeftModel:
    """Freeze a stage and add a new adapter, which initially has no effect."""
    set_seed(seed)
    stage.name_or_path = ""  # otherwise, PEFT looks for the stage on the Hub whenever it saves
    if any(not weight.is_floating_point() for weight in stage.parameters()):
        stage = prepare_model_for_kbit_training(stage, use_gradient_checkpointing=False)
    rank, dropout = config.rank, config.dropout
    lora = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=dropout, target_modules="all-linear")
    return get_peft_model(stage, lora)


def train_adapter(config: LoraTrainingConfig, name: str, stage: AudioLMStageBase) -> dict[str, dict[str, Any]]:
    """Train the adapter of a stage, and return bits per token before and after and the numbers of parameters."""
    output, lora = Path(config.output_folder), config.stages[name]
    adapted = adapt_stage(stage, lora, config.seed)
    tokens = {split: str(output / "tokens" / split) for split in ("train", "validation")}
    batches = validation_batches(TokenDataset(tokens["validation"]), stage.config, lora.batch_tokens)
    before = stage_bits(adapted, batches)
    shared = {key: value for key, value in asdict(lora).items() if key not in ("rank", "dropout")}
    training = StageTrainingConfig(
        stage=name,
        output_folder=str(output / name),
        train_tokens=[tokens["train"]],
        validation_tokens=[tokens["validation"]],
        window_length_s=stage.config.window_length_s,
        initial_weights=config.base,
        weight_decay=0.0,
        bf16=config.bf16,
        use_cpu=config.use_cpu,
        seed=config.seed,
        **shared,
    )
    train_stage(training, adapted)
    trainable, total = adapted.get_nb_trainable_parameters()
    parameters = {"adapter": trainable, "stage": total - trainable}
    return {"before": before, "after": stage_bits(adapted, batches), "parameters": parameters}


def join_adapters(base: str, stages: Mapping[str, Path], folder: Path, recordings: Mapping[str, Any]) -> None:
    """Merge saved adapters of single stages of `base` into one adapter of the whole model, with its processor."""
    configs = {stage: PeftConfig.from_pretrained(str(path)) for stage, path in stages.items()}
    weights = {
        f"{stage}.{name.removeprefix('base_model.model.')}": weight
        for stage, path in stages.items()
        for name, weight in load_peft_weights(str(path), device="cpu").items()
    }
    joint = copy.deepcopy(next(iter(configs.values())))
    layers = {name.partition(".lora_")[0] for name in weights}
    joint.target_modules = "|".join(sorted({re.sub(r"\d+", r"\\d+", re.escape(name)) for name in layers}))
    joint.auto_mapping = None
    for size, patterns in (("r", "rank_pattern"), ("lora_alpha", "alpha_pattern")):
        found: dict[str, int] = {}
        for stage, config in configs.items():
            found |= {rf"{stage}\.(.*\.)?({key})": value for key, value in getattr(config, patterns).items()}
            if getattr(config, size) != getattr(joint, size):
                found[rf"{stage}\..*"] = getattr(config, size)
        setattr(joint, patterns, found)
    model = AudioLMModel.from_pretrained(base, dtype="float32")
    model.add_adapter(joint)
    unexpected = set_peft_model_state_dict(model, weights)[1]
    if unexpected:
        raise ValueError(f"The adapters hold {sorted(unexpected)[0]}, which is not a weight of LoRA on {base}.")
    model.save_pretrained(folder)
    AudioLMProcessor.from_pretrained(base).save_pretrained(folder)
    notes = json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8")) | {"recordings": dict(recordings)}
    (folder / ADAPTER_FILE).write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")


def convert_adapter(old: Path, new: Path) -> None:
    """Convert an adapter folder in the older format, with a subfolder for each stage, to PEFT's format."""
    notes = json.loads((old / ADAPTER_FILE).read_text(encoding="utf-8")) if (old / ADAPTER_FILE).is_file() else {}
    if "stages" not in notes:
        raise ValueError(f"{old} is not an adapter folder of the older form, whose {ADAPTER_FILE} lists stages.")
    if new.exists():
        raise ValueError(f"{new} already exists; name a new folder.")
    base = find_base(notes["base"], old)
    stages = AudioLMModel.from_pretrained(base, dtype="float32").stages
    for stage, expected in notes["stages"].items():
        norm = [weight for weight in stages[stage].parameters() if weight.dim() == 1][-1]
        if not torch.allclose(norm[: len(expected)], torch.tensor(expected), rtol=1e-2, atol=1e-3):
            raise ValueError(f"The {stage} stage of {base} is not the one that the adapter was trained on.")
    paths = {name: old / name for name in notes["stages"]}
    replace_folder(new, lambda folder: join_adapters(base, paths, folder, notes["recordings"]))
