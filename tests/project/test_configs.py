# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Every YAML file of the repository fits the dataclass of its training."""

from pathlib import Path

import pytest
import yaml

from audiolm_hf.training.recipe import load_config

FOLDER = Path(__file__).parents[2] / "configs"
# Those of accelerate are its own; those of the data are read by `audiolm-hf data`, see test_commands_corpora.py.
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name not in ("accelerate", "data"))


TRAININGS = [(path, phase) for path in FILES for phase in yaml.safe_load(path.read_text()).get("phases", [None])]


@pytest.mark.parametrize(("path", "phase"), TRAININGS, ids=[f"{path.stem}-{phase}" for path, phase in TRAININGS])
def test_configuration_loads(path, phase):
    overrides = [] if " data:" not in path.read_text().replace("\n", " ") else ["data.folder=/data"]
    overrides += [] if phase is None else [f"phase={phase}"]
    config = load_config(path, overrides)
    assert phase is None or Path(config.output_folder).name in (phase, "train", "transposed", "varied")


PAPER = FOLDER / "paper"
PARTS = ["codec", "centroids", "semantic", "coarse", "fine", "parallel"]


@pytest.mark.parametrize("part", PARTS)
def test_sizes_are_the_paper_s(part):
    config = load_config(PAPER / f"{part}.yaml", ["data.folder=/data"] if part in ("codec", "centroids") else [])
    if part == "codec":
        sizes = {name: config.codec[name] for name in ("sampling_rate", "strides", "num_codebooks", "codebook_size")}
        assert sizes == {"sampling_rate": 16000, "strides": [2, 4, 5, 8], "num_codebooks": 12, "codebook_size": 1024}
        assert config.discriminator.start_step is not None
    elif part == "centroids":
        assert (config.layer, config.num_semantic_tokens, config.pooling) == (7, 1024, 2)
    else:
        window, ids = {
            "semantic": (30, 752), "coarse": (10, 2252), "fine": (3, 1802), "parallel": (30, 1500)
        }[part]  # fmt: skip
        assert (config.window_length_s, config.batch_tokens, config.max_steps) == (window, 256 * ids, 1_000_000)
        assert config.remove_repeats == (part in ("semantic", "coarse"))
        sizes = [config.backbone[name] for name in ("num_hidden_layers", "num_attention_heads", "hidden_size")]
        assert [*sizes, config.backbone["intermediate_size"]] == [12, 16, 1024, 4096]


def test_there_are_configurations():
    assert len(FILES) >= 7
