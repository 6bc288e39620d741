# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""A tiny AudioLM with random weights for the whole run, and the same random numbers for every test."""

import gc
import os
import signal
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What is imported in functions, torch above all, is not imported by the process that starts pytest-xdist's workers.

TINY_BACKBONE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY_LAYOUT = {"num_semantic_tokens": 20, "codebook_size": 8, "num_coarse_codebooks": 2, "num_fine_codebooks": 3}


CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
TESTED_PYTHON = (3, 11)


def warning_filters(versions: dict[str, str], python: tuple[int, int]) -> list[str]:
    """What changes in the filters of pyproject.toml where these versions are installed, by canonical name.

    With exactly the set of constraints.txt every warning is an error. With any other, libraries may warn of what is
    new in them, which is listed and fails nothing; what this repository's own lines cause is still an error.
    """
    lines = (line.partition("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines())
    pins = {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, filter(None, lines))}
    known = versions.keys() & pins.keys()
    if python == TESTED_PYTHON and all(pins[name].contains(versions[name], prereleases=True) for name in known):
        return []
    return ["default", "error:::audiolm_hf", "error:::tests"]


def pytest_configure(config):
    versions = {canonicalize_name(found.metadata["Name"]): found.version for found in distributions()}
    for line in warning_filters(versions, sys.version_info[:2]):
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Keep what imports make out of garbage collection, of which every training with Trainer has a full one."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_sessionfinish():
    gc.unfreeze()  # for Hypothesis, which asks who refers to what, and may be imported only now


def some_slow(values, *quick):
    """Parameters of a test, of which all but the quick ones are run by the slow tests alone."""
    return [value if value in quick else pytest.param(*_as_tuple(value), marks=pytest.mark.slow) for value in values]


def _as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


def tiny_stage_config(**changes):
    """Keyword arguments of any of the three stage configurations."""
    return {"backbone_config": dict(TINY_BACKBONE), **TINY_LAYOUT, **changes}


def tiny_config(**changes):
    """Configuration of a whole AudioLM at 16 kHz: 25 semantic tokens and 50 frames a second."""
    from audiolm_hf.configuration_audiolm import AudioLMConfig

    parts = {
        "semantic_tokenizer_config": {
            "encoder_config": {
                "model_type": "wav2vec2-bert",
                "hidden_size": 16,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "output_hidden_size": 16,
                "conv_depthwise_kernel_size": 3,
            },
            "layer": 1,
            "num_semantic_tokens": 20,
        },
        "codec_config": {
            "num_codebooks": 5,
            "codebook_size": 8,
            "codebook_dim": 8,
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "window_length": 640,
        },
        "semantic_config": tiny_stage_config(window_length_s=2.0),
        "coarse_config": tiny_stage_config(window_length_s=1.0),
        "fine_config": tiny_stage_config(window_length_s=0.5),
    }
    return AudioLMConfig(**{**parts, **changes})


def randomise(model, scale=0.3):
    """Give every stage weights large enough that its choices differ, and the codec's codebooks some content."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data += scale * torch.randn(parameter.shape, generator=generator)
    for name, buffer in model.named_buffers():
        if name.endswith("codebook"):  # zeros until they are trained
            buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def tiny_audiolm():
    import torch

    from audiolm_hf.modeling_audiolm import AudioLMModel

    torch.manual_seed(0)
    return randomise(AudioLMModel(tiny_config()))


@pytest.fixture(scope="session", autouse=True)
def _own_folder_for_temporary_files(tmp_path_factory):
    """Keep what libraries and killed subprocesses leave behind out of the machine's folder for temporary files."""
    folder = tmp_path_factory.mktemp("tmp")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)  # found again from TMPDIR
        yield
    gc.collect()  # the folder of a demo goes with its page, which is part of cycles
    left = [path.name for path in folder.glob("audiolm-hf-*")]
    assert not left, f"the tests left {left}"


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk():
    """Leave what is written to the system, as no test cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _interruptible():
    """Let tests interrupt themselves where SIGINT was ignored at their start, as in the background of a shell."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    import torch

    torch.manual_seed(0)
