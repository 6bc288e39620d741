# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Stages and codec of audiolm-pytorch (MIT), with random weights, and those of this package in the same sizes.

audiolm-pytorch cannot be installed with its dependencies under current Python, and needs few of them here:
`pip install --no-deps audiolm-pytorch==2.4.0` and the packages that an error names. Packages for its tokenizers and
its training are replaced by empty ones while it is imported.
"""

import importlib.util
import sys
import warnings
from functools import partial
from types import ModuleType
from typing import Any

import torch

from audiolm_hf.configuration_audiolm import AudioLMCoarseConfig, AudioLMFineConfig, AudioLMSemanticConfig
from audiolm_hf.evaluation.speed_tasks import Run, sample
from audiolm_hf.modeling_audiolm import AudioLMModel
from audiolm_hf.modeling_stage_audiolm import AudioLMCoarseModel, AudioLMFineModel, AudioLMSemanticModel
from audiolm_hf.packed_products_audiolm import fast_dtypes

AUDIOLM_PYTORCH = "audiolm-pytorch"
SIZES = ((256, 4), (1024, 6))  # hidden size and layers
NUM_SEMANTIC, NUM_COARSE, NUM_FINE, CODEBOOK_SIZE = 500, 3, 5, 1024
SEMANTIC_TOKENS, CONDITION, FRAMES = 250, 100, 100  # of the semantic stage; of the others, 2 s of each
LAYOUT = {
    "num_semantic_tokens": NUM_SEMANTIC,
    "codebook_size": CODEBOOK_SIZE,
    "num_coarse_codebooks": NUM_COARSE,
    "num_fine_codebooks": NUM_FINE,
}
UNUSED = ("fairseq", "torchaudio", "torchaudio.functional", "torchaudio.transforms", "wandb", "joblib", "sklearn")
T5_SIZE = 768  # of text embeddings, which nothing here has; read from the Hub otherwise


def peer_runs(model: AudioLMModel, skipped: dict[str, str]) -> list[Run]:
    """Return what is timed of both packages; nothing if the other cannot be imported, with the reason in `skipped`."""
    if model.device.type != "cpu":
        skipped[AUDIOLM_PYTORCH] = f"is compared on the CPU, and the model is on {model.device}"
        return []
    try:
        peer = _import_peer()
    except ImportError as error:
        skipped[AUDIOLM_PYTORCH] = f"cannot be imported ({error}); pip install --no-deps it and what it names"
        return []
    torch.manual_seed(0)
    codec = peer.AudioLMSoundStream(codebook_size=CODEBOOK_SIZE, rq_num_quantizers=NUM_COARSE + NUM_FINE).eval()
    runs: list[Run] = []
    for size in SIZES:
        for dtype in fast_dtypes():
            runs += _own_runs(size, dtype)
        runs += _peer_stage_runs(peer, codec, size)
    own, samples = model.acoustic_codec, 0.1 * torch.randn(1, 2 * model.sampling_rate)
    row = {"stage": "codec, encode and decode", "size": "-", "audio_s": 2.0}
    runs.append(({**row, "system": "audiolm-hf"}, lambda: own.decode(own.encode(samples))))
    runs.append(({**row, "system": AUDIOLM_PYTORCH}, partial(_peer_code, codec, 0.1 * torch.randn(1, 32000))))
    return runs


class _Unused(ModuleType):
    """A stand-in for a package that is imported, but that nothing timed here uses."""

    def __getattr__(self, name: str) -> Any:
        # In place of any class, such as spectrograms for the codec's losses.
        return lambda *args, **kwargs: torch.nn.Identity()


def _import_peer() -> Any:
    unused = {name: _Unused(name) for name in UNUSED if importlib.util.find_spec(name.partition(".")[0]) is None}
    for name, module in unused.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(unused[parent], child, module)
    warn = warnings.warn
    sys.modules.update(unused)
    try:
        peer = importlib.import_module("audiolm_pytorch")
    finally:
        warnings.warn = warn  # which it replaces for the whole process
        for name in unused:
            del sys.modules[name]
    peer.audiolm_pytorch.get_encoded_dim = lambda name: T5_SIZE
    return peer


def _row(stage: str, size: tuple[int, int], system: str, tokens: int) -> dict[str, Any]:
    return {"stage": stage, "size": "x".join(map(str, size)), "system": system, "batch": 1, "tokens": tokens}


def _own_runs(size: tuple[int, int], dtype: torch.dtype) -> list[Run]:
    width, depth = size
    # Like the peer's: 8 heads of 64, which share keys and values, and gated layers of 8/3 of the width.
    backbone = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": width * 8 // 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 1,
        "head_dim": 64,
    }
    condition = torch.arange(CONDITION) % NUM_SEMANTIC
    stages = {
        "semantic": (AudioLMSemanticModel, AudioLMSemanticConfig, condition[:0], SEMANTIC_TOKENS),
        "coarse": (AudioLMCoarseModel, AudioLMCoarseConfig, condition, FRAMES * NUM_COARSE),
        "fine": (AudioLMFineModel, AudioLMFineConfig, torch.arange(FRAMES * NUM_COARSE), FRAMES * NUM_FINE),
    }
    runs: list[Run] = []
    for name, (model_class, config_class, ids, count) in stages.items():
        config = config_class(backbone_config=dict(backbone), **LAYOUT)
        stage = model_class(config).to(dtype).eval()
        ends = [config.separator_token_id] * bool(len(ids))
        context = torch.tensor([config.begin_token_id, *ids.tolist(), *ends])
        system = f"audiolm-hf {str(dtype).removeprefix('torch.')}"
        runs.append((_row(name, size, system, count), partial(sample, stage, context, count, 1)))
    return runs


def _peer_stage_runs(peer: Any, codec: Any, size: tuple[int, int]) -> list[Run]:
    shape = {"dim": size[0], "depth": size[1]}
    levels = {"codebook_size": CODEBOOK_SIZE, "num_coarse_quantizers": NUM_COARSE}
    semantic = peer.SemanticTransformer(num_semantic_tokens=NUM_SEMANTIC, **shape)
    coarse = peer.CoarseTransformer(num_semantic_tokens=NUM_SEMANTIC, **levels, **shape)
    fine = peer.FineTransformer(num_fine_quantizers=NUM_FINE, **levels, **shape)
    with torch.no_grad():  # so that the end token, which is drawn otherwise, does not shorten the work
        for stage in (semantic, coarse):
            stage.eos_id = -1
    semantic_run = peer.SemanticTransformerWrapper(transformer=semantic, unique_consecutive=False).eval().generate
    coarse_run = (
        peer.CoarseTransformerWrapper(transformer=coarse, codec=codec, unique_consecutive=False).eval().generate
    )
    fine_run = peer.FineTransformerWrapper(transformer=fine, codec=codec).eval().generate
    tokens = (torch.arange(CONDITION) % NUM_SEMANTIC)[None]
    codes = torch.arange(FRAMES * NUM_COARSE).view(1, FRAMES, NUM_COARSE)
    runs = {
        "semantic": (SEMANTIC_TOKENS, partial(semantic_run, max_length=SEMANTIC_TOKENS + 1, prime_ids=tokens[:, :1])),
        "coarse": (FRAMES * NUM_COARSE, partial(coarse_run, semantic_token_ids=tokens, max_time_steps=FRAMES)),
        "fine": (FRAMES * NUM_FINE, partial(fine_run, coarse_token_ids=codes)),
    }
    return [(_row(name, size, AUDIOLM_PYTORCH, count), run) for name, (count, run) in runs.items()]


@torch.inference_mode()
def _peer_code(codec: Any, samples: torch.Tensor) -> torch.Tensor:
    _, codes, _ = codec(samples, return_encoded=True)
    return codec.decode_from_codebook_indices(codes)
