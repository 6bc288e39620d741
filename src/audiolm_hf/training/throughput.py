# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""How fast a stage trains: tokens a second and the share of the device's peak, for several ways to compute the same.

All variants take turns in one run, so that their ratios hold even where something else uses the machine. Operations
are counted as in `estimate_stage`. Paper: AudioLM (arXiv 2209.03143), the coarse stage at its size.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.utils import is_flash_attn_2_available

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig
from audiolm_hf.evaluation.speed import device_name, time_call
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel
from audiolm_hf.training.estimate_result import trained_state_bytes
from audiolm_hf.training.estimate_stage import StageShape, decoder_flops, head_flops, linear_weights
from audiolm_hf.training.hardware import recognise_accelerator

VARIANTS = ("eager", "sdpa", "compile", "flash_attention_2")
DTYPES = ("bf16", "float32")
NUM_SEMANTIC_TOKENS = 1024
CODEBOOK_SIZE = 1024
MATRIX_SIZE = 1024  # of the product that measures a CPU's peak
NUM_PRODUCTS = 5


@dataclass(frozen=True)
class ThroughputOptions:
    """What is measured.

    Args:
        num_layers, hidden_size, num_heads, intermediate_size (`int`): of the decoder; by default the paper's.
        batch (`int`): sequences per step.
        length (`int`): ids per sequence.
        steps (`int`): timed steps of one turn.
        rounds (`int`): turns of every variant; the median turn counts.
        variants (`Sequence[str]`): of `VARIANTS`.
        dtypes (`Sequence[str]`): of `DTYPES`.
        device (`str`): such as `"cuda"` or `"cpu"`.
    """

    num_layers: int = 12
    hidden_size: int = 1024
    num_heads: int = 16
    intermediate_size: int = 4096
    batch: int = 16
    length: int = 2252
    steps: int = 5
    rounds: int = 3
    variants: Sequence[str] = ("eager", "sdpa", "compile")
    dtypes: Sequence[str] = ("bf16",)
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size", "batch", "steps", "rounds"):
            if vars(self)[name] < 1:
                raise ValueError(f"{name} is {vars(self)[name]}; give 1 or more.")
        if self.length < 8:
            raise ValueError(f"length is {self.length}; give 8 or more ids.")
        for name, known in (("variants", VARIANTS), ("dtypes", DTYPES)):
            unknown = [entry for entry in vars(self)[name] if entry not in known]
            if unknown or not vars(self)[name]:
                raise ValueError(f"{name} has {unknown}; give some of {', '.join(known)}.")
        if "flash_attention_2" in self.variants and not is_flash_attn_2_available():
            raise ValueError("The variant flash_attention_2 needs the package flash-attn; install it or leave it out.")


def build_stage(options: ThroughputOptions) -> AudioLMCoarseModel:
    """Build the coarse stage that is trained, with random weights, on the options' device."""
    torch.manual_seed(0)
    config = AudioLMCoarseConfig(
        backbone_config={
            "model_type": "llama",
            "hidden_size": options.hidden_size,
            "intermediate_size": options.intermediate_size,
            "num_hidden_layers": options.num_layers,
            "num_attention_heads": options.num_heads,
            "num_key_value_heads": options.num_heads,
            "max_position_embeddings": max(4096, options.length),
        },
        num_semantic_tokens=NUM_SEMANTIC_TOKENS,
        codebook_size=CODEBOOK_SIZE,
    )
    return AudioLMCoarseModel(config).to(options.device).train()


def build_batch(options: ThroughputOptions, config: AudioLMCoarseConfig) -> tuple[dict[str, Tensor], StageShape]:
    """Draw full sequences: about a ninth semantic tokens, as in training, then codes, which are predicted."""
    levels = config.num_coarse_codebooks
    num_codes = max(1, (options.length - 2) * 8 // 9 // levels) * levels
    num_semantic = options.length - 2 - num_codes
    generator = torch.Generator().manual_seed(0)
    semantic = torch.randint(NUM_SEMANTIC_TOKENS, (options.batch, num_semantic), generator=generator)
    codes = torch.randint(CODEBOOK_SIZE, (options.batch, num_codes), generator=generator)
    codes = codes + config.acoustic_offset + torch.arange(num_codes) % levels * CODEBOOK_SIZE
    bos, separator = (
        torch.full((options.batch, 1), token) for token in (config.begin_token_id, config.separator_token_id)
    )
    input_ids = torch.cat([bos, semantic, separator, codes], dim=1).to(options.device)
    labels = input_ids.clone()
    labels[:, : num_semantic + 2] = -100
    return {"input_ids": input_ids, "labels": labels}, StageShape(options.length, num_codes, CODEBOOK_SIZE)


def needed_memory(options: ThroughputOptions) -> float:
    """Estimate the bytes of a step: trained weights, and what the layers keep for the backward pass.

    Args:
        options ([`ThroughputOptions`]): what is measured.

    Returns:
        `float`: bytes, of the variant and dtype that take most.
    """
    width, inner, tokens = options.hidden_size, options.intermediate_size, options.batch * options.length
    weights = options.num_layers * width * (4 * width + 3 * inner)
    item_bytes = 4 if "float32" in options.dtypes else 2
    kept = tokens * (8 * width + 4 * inner) * item_bytes  # inputs of the products and of what is between them
    if "eager" in options.variants:  # scores in float32, and their softmax
        kept += options.num_heads * options.length * tokens * (4 + item_bytes)
    return sum(trained_state_bytes(weights, 1).values()) + float(options.num_layers) * kept


class Variant:
    """One way to compute a training step of a shared model.

    Args:
        name (`str`): of `VARIANTS`.
        dtype (`str`): of `DTYPES`.
        model ([`AudioLMCoarseModel`]): shared by all variants.
    """

    def __init__(self, name: str, dtype: str, model: AudioLMCoarseModel) -> None:
        self.name, self.dtype, self.model = name, dtype, model
        self.decoder: Any = model.model
        if name == "compile":
            self.decoder = torch.compile(model.model)  # the loss has shapes that depend on the labels
        self.turns: list[float] = []
        self.first_step_s = 0.0

    def __enter__(self) -> "Variant":
        self._plain = self.model.model
        self._plain.set_attn_implementation("sdpa" if self.name == "compile" else self.name)
        self.model.model = self.decoder
        return self

    def __exit__(self, *error: object) -> None:
        self.model.model = self._plain

    def step(self, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        """Run forward, backward and the optimizer once."""
        device = batch["input_ids"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.dtype == "bf16"):
            loss = self.model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def measured_peak_flops(dtype: str, device: str) -> float:
    """Operations a second of one large matrix product, the best of a few: the peak where no data sheet is known."""
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    left, right = (torch.randn(MATRIX_SIZE, MATRIX_SIZE, device=device).to(kind) for _ in range(2))
    times = [time_call(lambda: left @ right, device) for _ in range(NUM_PRODUCTS + 1)]
    return 2 * MATRIX_SIZE**3 / min(times[1:])


def peak_flops(dtype: str, device: str) -> tuple[float, str]:
    """Operations a second at most, and where that number is from."""
    known = recognise_accelerator(device_name(device)) if torch.device(device).type == "cuda" else None
    if known is None:
        return measured_peak_flops(dtype, device), f"measured, a product of {MATRIX_SIZE} x {MATRIX_SIZE} matrices"
    return known.peak_flops(dtype == "bf16"), f"data sheet, {known.name}"


def measure_training(options: ThroughputOptions) -> dict[str, Any]:
    """Measure every variant, taking turns.

    Args:
        options ([`ThroughputOptions`]): what to measure.

    Returns:
        `dict`: the device, its peaks, the model's size, `flops_per_token`, and under `variants` a row for each with
        `tokens`, `seconds`, `tokens_per_s`, `mfu` (share of the peak), `ratio` (to the first variant of its dtype)
        and `first_step_s`, compilation included.
    """
    model = build_stage(options)
    batch, shape = build_batch(options, model.config)
    cuda = torch.device(options.device).type == "cuda"
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, (0.9, 0.95), fused=cuda)
    backbone = model.config.backbone_config
    flops = decoder_flops(linear_weights(model.model), backbone, options.length, 1)
    flops_per_token = (flops + head_flops(model.config, shape, 1)) / options.length
    variants = [Variant(name, dtype, model) for dtype in options.dtypes for name in options.variants]
    peaks: dict[str, list[float]] = {dtype: [] for dtype in options.dtypes}
    for variant in variants:
        with variant:
            variant.first_step_s = time_call(partial(variant.step, batch, optimizer), options.device)
    for _ in range(options.rounds):
        for dtype, found in peaks.items():
            found.append(peak_flops(dtype, options.device)[0])
        for variant in variants:
            with variant:
                variant.turns.append(_turn(variant, batch, optimizer, options))
    return {
        "device": device_name(options.device),
        "torch": torch.__version__,
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in vars(options).items()},
        "parameters": model.num_parameters(),
        "flops_per_token": flops_per_token,
        "peak_tflops": {dtype: max(found) / 1e12 for dtype, found in peaks.items()},
        "peak_from": {dtype: peak_flops(dtype, options.device)[1] for dtype in options.dtypes},
        "variants": training_rows(variants, options, flops_per_token, {name: max(peaks[name]) for name in peaks}),
    }


def _turn(
    variant: Variant, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, options: ThroughputOptions
) -> float:
    def run() -> None:
        for _ in range(options.steps):
            variant.step(batch, optimizer)

    variant.step(batch, optimizer)  # what the turn before left in caches is not this variant's
    return time_call(run, options.device)


def training_rows(
    variants: Sequence[Variant], options: ThroughputOptions, flops_per_token: float, peaks: dict[str, float]
) -> list[dict[str, Any]]:
    """Turn times into figures; see [`measure_training`]."""
    rows = []
    first: dict[str, float] = {}
    for variant in variants:
        tokens = options.steps * options.batch * options.length
        seconds = statistics.median(variant.turns)
        rate = tokens / seconds
        rows.append(
            {
                "variant": variant.name,
                "dtype": variant.dtype,
                "tokens": tokens,
                "seconds": seconds,
                "turns_s": list(variant.turns),
                "tokens_per_s": rate,
                "mfu": rate * flops_per_token / peaks[variant.dtype],
                "ratio": rate / first.setdefault(variant.dtype, rate),
                "first_step_s": variant.first_step_s,
            }
        )
    return rows


def format_training(report: dict[str, Any]) -> str:
    """Write the figures of [`measure_training`] as a table."""
    options = report["options"]
    peaks = ", ".join(
        f"{dtype} {value:.3g} TFLOP/s ({report['peak_from'][dtype]})" for dtype, value in report["peak_tflops"].items()
    )
    lines = [
        f"{report['device']}, torch {report['torch']}; peak: {peaks}",
        f"{report['parameters'] / 1e6:.1f} M parameters, {options['num_layers']} layers of {options['hidden_size']}",
        f"{report['flops_per_token'] / 1e9:.3f} GFLOP a token; batch {options['batch']} x {options['length']} ids",
        "",
        f"{'variant':<20}{'dtype':<9}{'tokens/s':>12}{'MFU':>8}{'ratio':>8}{'first step':>12}",
    ]
    lines += [
        f"{row['variant']:<20}{row['dtype']:<9}{row['tokens_per_s']:>12,.0f}{row['mfu']:>8.1%}{row['ratio']:>8.2f}"
        f"{row['first_step_s']:>10.1f} s"
        for row in report["variants"]
    ]
    return "\n".join(lines)


__all__ = [
    "DTYPES",
    "VARIANTS",
    "ThroughputOptions",
    "Variant",
    "build_batch",
    "build_stage",
    "format_training",
    "measure_training",
    "measured_peak_flops",
    "needed_memory",
    "peak_flops",
    "training_rows",
]
