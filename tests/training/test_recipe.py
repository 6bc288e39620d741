# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile as sf
import yaml

from audiolm_hf.data.tokens import TokenDataset
from audiolm_hf.run_folder import hold_folder
from audiolm_hf.training.recipe import load_config, resolve_steps, run_training
from audiolm_hf.training.run import describe_config
from audiolm_hf.training.tokenize import TokenizeConfig
from tests.helpers_checkpoint import CLIP, DATA, OTHER_CLIP, ROOT, environment
from tests.helpers_tokens import write_tokens

STAGE = {
    "kind": "stage",
    "stage": "semantic",
    "train_tokens": ["$output/tokens"],
    "validation_tokens": ["$output/tokens"],
    "window_length_s": 0.8,
    "num_coarse_codebooks": 2,
    "backbone": {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
    },
    "batch_tokens": 64,
    "max_steps": 2,
    "warmup_steps": 1,
    "eval_steps": 1,
    "bf16": False,
    "use_cpu": True,
}


def stage(name, **changes):
    return STAGE | {"name": name, "output_folder": f"$output/{name}"} | changes


@pytest.fixture
def recipe_file(tmp_path):
    """Writes a recipe of the given steps; its tokens are there."""
    write_tokens(tmp_path / "out" / "tokens", [30, 12, 25])

    def write(*steps, **changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(
            yaml.safe_dump({"kind": "recipe", "output_folder": str(tmp_path / "out"), "steps": [*steps]} | changes)
        )
        return path

    return write


def test_steps_run_in_order_and_only_once(recipe_file, tmp_path):
    path = recipe_file(stage("a"), stage("b", initial_weights="$output/a/final", max_steps=3))
    assert run_training(path) == tmp_path / "out/b/final"
    record = json.loads((tmp_path / "out/b/run.json").read_text())
    assert "model.safetensors" in record["inputs"]["initial_weights"]
    weights = tmp_path / "out/b/final/model.safetensors"
    before = {path: path.stat().st_mtime_ns for path in (weights, tmp_path / "out/a/final/model.safetensors")}
    assert run_training(path) == tmp_path / "out/b/final"
    assert [path.stat().st_mtime_ns for path in before] == [*before.values()]
    (tmp_path / "out/b/run.json").write_text(json.dumps(record | {"result": None}))
    run_training(path)
    assert [path.stat().st_mtime_ns > time for path, time in before.items()] == [True, False]


def test_a_step_that_fails_is_the_first_of_the_next_run(recipe_file, tmp_path):
    path = recipe_file(stage("a"), stage("b", train_tokens=["$output/later"]))
    with pytest.raises(FileNotFoundError, match="later"):
        run_training(path)
    write_tokens(tmp_path / "out" / "later", [20, 20])
    weights = (tmp_path / "out/a/final/model.safetensors").stat().st_mtime_ns
    assert run_training(path) == tmp_path / "out/b/final"
    assert (tmp_path / "out/a/final/model.safetensors").stat().st_mtime_ns == weights


def test_a_done_step_with_other_settings_is_an_error_until_it_is_to_be_overwritten(recipe_file, tmp_path):
    run_training(recipe_file(stage("a", max_steps=1), stage("b", seed=1)))
    other = recipe_file(stage("a", max_steps=2, seed=5), stage("b", seed=1))
    with pytest.raises(ValueError, match=r"out/a holds another run; different: max_steps \(1, now 2\), seed \(0, now"):
        run_training(other)
    weights = (tmp_path / "out/b/final/model.safetensors").stat().st_mtime_ns
    run_training(other, overwrite=True)
    assert json.loads((tmp_path / "out/a/report.json").read_text())["steps"] == 2
    assert (tmp_path / "out/b/final/model.safetensors").stat().st_mtime_ns == weights  # it does not build on a


def test_a_step_whose_input_was_made_anew_is_not_taken_for_done(recipe_file):
    steps = lambda seed: [stage("a", seed=seed), stage("b", initial_weights="$output/a/final")]  # noqa: E731
    run_training(recipe_file(*steps(0)))
    with pytest.raises(ValueError, match="different: seed"):
        run_training(recipe_file(*steps(1)))
    path = recipe_file(*steps(1))
    run_training(path, ["output_folder=" + str(path.parent / "out")], overwrite=True)
    run_training(path)


def test_two_recipes_in_one_folder_are_refused(recipe_file, tmp_path):
    path = recipe_file(stage("a"))
    with hold_folder(tmp_path / "out", "recipe", {}, {}, shared=True), pytest.raises(BlockingIOError, match="out"):
        run_training(path)


def test_a_file_s_keys_can_be_changed_in_the_recipe_and_by_overrides(recipe_file, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "stage.yaml").write_text(
        yaml.safe_dump(STAGE | {"output_folder": "$output/sub", "output": "elsewhere"})
    )
    step = {"name": "a", "config": "sub/stage.yaml", "seed": 3, "backbone": {"hidden_size": 32}}
    path = recipe_file(step, {"name": "b", "config": "sub/stage.yaml", "output_folder": "$output/b"})
    first, second = resolve_steps(load_config(path, ["steps.b.max_steps=7", "steps.0.backbone.num_hidden_layers=2"]))
    assert (first.config.seed, first.config.output_folder, second.config.max_steps) == (3, f"{tmp_path}/out/sub", 7)
    alone = load_config(tmp_path / "sub/stage.yaml")
    assert (alone.output_folder, alone.train_tokens) == ("elsewhere/sub", ["elsewhere/tokens"])
    assert first.config.backbone == STAGE["backbone"] | {"hidden_size": 32, "num_hidden_layers": 2}
    assert first.config.train_tokens == [f"{tmp_path}/out/tokens"]


def test_the_data_folder_and_given_files_reach_every_step(recipe_file):
    tokenize = {"kind": "tokenize", "semantic_tokenizer": "$data/t", "codec": "c"}
    path = recipe_file(
        tokenize | {"name": "own", "output_folder": "$output/own", "data": {"train": ["x"], "folder": "/old"}},
        tokenize | {"name": "shared", "output_folder": "$output/shared"},
        data={"folder": "$here/audio", "validation": ["v"]},
    )
    with pytest.raises(ValueError, match="step shared: data: the key 'train' is missing"):
        load_config(path)
    own, shared = resolve_steps(load_config(path, ["steps.shared.data.train=[a]"]))
    assert (own.config.data.train, own.config.data.validation) == (["x"], ["v"])
    assert [step.config.data.folder for step in (own, shared)] == [f"{path.parent}/audio"] * 2
    assert (shared.config.data.train, shared.config.semantic_tokenizer) == (["a"], f"{path.parent}/audio/t")
    own, shared = resolve_steps(load_config(path, ["data.folder=/new", "data.train=[b]"]))
    assert [step.config.data.train for step in (own, shared)] == [["b"], ["b"]] and own.config.data.folder == "/new"


def test_keys_of_the_recipe_that_are_the_steps_reach_every_step_that_knows_them(recipe_file):
    tokenize = {"name": "tokens", "kind": "tokenize", "semantic_tokenizer": "t", "codec": "c"}
    tokenize |= {"output_folder": "$output/made", "data": {"folder": "d", "train": ["a"]}}
    path = recipe_file(tokenize, stage("a", seed=3), stage("b"))
    tokens, *stages = resolve_steps(load_config(path, ["seed=1", "backbone.hidden_size=64", "float16=true"]))
    assert [step.config.seed for step in stages] == [1, 1]
    assert [step.config.backbone["hidden_size"] for step in stages] == [64, 64]
    assert tokens.config.float16


@pytest.mark.parametrize("name", ["tiny/speech", "tiny/piano", "paper"])
def test_the_recipes_move_whole_with_their_output_folder(name, tmp_path):
    overrides = [f"output_folder={tmp_path}/out", "data.folder=/data"]
    steps = resolve_steps(load_config(ROOT / "configs" / name / "recipe.yaml", overrides))
    for step in steps:
        assert Path(step.config.output_folder).parent.is_relative_to(tmp_path / "out")
        named = [text for text in yaml.safe_dump(dataclasses.asdict(step.config)).split() if "runs/" in text]
        assert named in ([], ["runs/speech-tiny/codec_low_band/final"])  # piano-tiny begins with the speech's codec
        assert "$output" not in str(step.config)


@pytest.mark.parametrize(
    ("steps", "overrides", "message"),
    [
        ([], [], "steps is .*that is not empty"),
        ([stage("../a")], [], r"steps\[0\] has the name '../a'"),
        ([stage("..")], [], r"steps\[0\] has the name '..'"),
        ([stage("a/b")], [], r"steps\[0\] has the name 'a/b'"),
        ([stage("")], [], r"steps\[0\] has the name ''"),
        ([stage("a", output_folder="runs/a")], [], "step a writes to runs/a, which is not inside the recipe's output"),
        ([stage("a", output_folder="$output/../a")], [], "which is not inside the recipe's output_folder"),
        ([stage("a", output_folder="$output")], [], "which is not inside the recipe's output_folder"),
        ([stage("a", output_folder="")], [], "step a: output_folder is ''; give a value that is not empty"),
        (
            [stage("a"), stage("b", output_folder="$output/a/b")],
            [],
            "The steps a and b write to .*; give each",
        ),
        (
            [stage("a")],
            ["sead=1"],
            "neither the recipe nor a step has the key 'sead'; did you mean 'seed'",
        ),
        ([stage("a")], ["seed=-1"], "step a: seed is -1"),
        ([stage("a")], ["max_steps=.nan"], "max_steps is nan"),
        ([STAGE], [], r"steps\[0\] has the name None"),
        ([stage("a"), stage("a")], [], r"steps\[1\] has the name 'a'"),
        ([{"name": "a", "knd": "stage"}], [], "step a has neither `kind` nor `config` but knd"),
        ([{"name": "a", "kind": "recipe", "steps": []}], [], "step a is a recipe itself"),
        ([stage("a", kind="stages")], [], "did you mean 'stage'"),
        ([stage("a"), stage("b", max_stepz=1)], [], "step b: unknown key 'max_stepz'; did you mean 'max_steps'"),
        ([stage("a")], ["steps.a.backbone.hiden_size=1"], "backbone: unknown key 'hiden_size'; did you mean 'hidden_"),
        (
            [stage("coarse")],
            ["steps.corse.seed=1"],
            "reaches for 'corse' in a list that does not have it; did you",
        ),
        ([stage("a")], ["steps.a=1"], "ends in a list"),
        ([stage("a")], ["stepz.a.seed=1"], "has the key 'stepz'; did you mean 'steps'"),
        ([stage("a", seed="one")], [], "step a: seed is 'one'"),
        ([stage("a", kind=3)], [], "step a: kind is 3; known are"),
        ([{"name": "a", 1: 2}], [], r"steps\[0\]: the key is 1 \(int\); it must be str"),
        (
            [stage("a"), stage("b", backbone={"num_hidden_layers": "two"})],
            [],
            "step b: backbone, .*'num_hidden_layers'",
        ),
        ([stage("a")], ["1=2"], "neither the recipe nor a step has the key '1'"),
        (
            [{"name": "a", "config": str(ROOT / "configs/debug.yaml"), "phase": "b"}],
            [],
            "phase of .* is 'b', but it has",
        ),
    ],
)
def test_what_does_not_fit_is_named_before_anything_runs(recipe_file, tmp_path, steps, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_training(recipe_file(*steps), overrides)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tokens"]


def test_a_missing_file_of_a_step_is_an_error(recipe_file):
    with pytest.raises(FileNotFoundError, match=r"no file .*/coarse\.yaml"):
        load_config(recipe_file({"name": "a", "config": "coarse.yaml"}))


def test_the_other_processes_wait_for_what_one_does_alone(recipe_file, tmp_path, monkeypatch):
    (tmp_path / "t").mkdir()  # tokenizers that nobody could load: nothing is done here
    step = {"name": "a", "kind": "tokenize", "semantic_tokenizer": "$here/t", "codec": "$here/t"}
    step |= {"output_folder": "$output/a"}
    path = recipe_file(step, data={"folder": str(DATA), "train": [CLIP.name]})
    monkeypatch.setenv("RANK", "1")

    def first_process(seconds):
        settings, inputs = describe_config(resolve_steps(load_config(path))[0].config)
        with hold_folder(tmp_path / "out/a", "tokenize", settings, inputs) as held:
            held.finish(tmp_path / "out/a")

    monkeypatch.setattr("audiolm_hf.training.run.time.sleep", first_process)
    assert run_training(path) == tmp_path / "out/a"


def test_tokenize_writes_both_splits(tmp_path, tiny_audiolm):
    tiny_audiolm.semantic_tokenizer.save_pretrained(tmp_path / "tokenizer")
    tiny_audiolm.codec.save_pretrained(tmp_path / "codec")
    path = tmp_path / "tokens.yaml"
    path.write_text(
        f"kind: tokenize\nsemantic_tokenizer: {tmp_path}/tokenizer\ncodec: {tmp_path}/codec\n"
        f"output_folder: {tmp_path}/tokens\ndata: {{folder: {DATA}, train: [{CLIP.name}]}}\n"
    )
    assert isinstance(load_config(path), TokenizeConfig)
    run_training(path)
    assert [entry.name for entry in (tmp_path / "tokens").iterdir() if entry.is_dir()] == ["train"]
    changes = [f"data.validation=[{OTHER_CLIP.name}]", f"output_folder={tmp_path}/both"]
    assert run_training(path, changes) == tmp_path / "both"
    lengths = [TokenDataset(tmp_path / "both" / name).duration for name in ("train", "validation")]
    assert lengths == pytest.approx([2.5, 2.9], abs=0.1)


@pytest.mark.slow
def test_two_processes_share_the_trainings_of_a_recipe(recipe_file, tmp_path, tiny_audiolm):
    tiny_audiolm.semantic_tokenizer.save_pretrained(tmp_path / "tokenizer")
    tiny_audiolm.codec.save_pretrained(tmp_path / "codec")
    tokenize = {"name": "tokens", "kind": "tokenize", "output_folder": "$output/both"}
    tokenize |= {"semantic_tokenizer": "$here/tokenizer", "codec": "$here/codec"}
    made = {"train_tokens": ["$output/both/train"], "validation_tokens": ["$output/both/train"]}
    data = {"folder": str(DATA), "train": [CLIP.name, OTHER_CLIP.name]}
    path = recipe_file(tokenize, stage("a", **made), data=data)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29617"]
    command = [*launch, "-m", "audiolm_hf.cli", "train", "--config", str(path)]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert json.loads((tmp_path / "out/a/report.json").read_text())["steps"] == 2
    assert (tmp_path / "out/both/train/tokens.json").is_file()
    weights = (tmp_path / "out/a/final/model.safetensors").stat().st_mtime_ns
    run_training(path)
    assert (tmp_path / "out/a/final/model.safetensors").stat().st_mtime_ns == weights


def write_parquet(path, clips):
    """Recordings the way a `datasets` user has them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    audio = [{"bytes": clip.read_bytes(), "path": clip.name} for clip in clips]
    pq.write_table(pa.table({"audio": audio, "speaker": [clip.stem.split("-")[0] for clip in clips]}), path)


CONTINUE = """
import sys, json
import numpy as np
import audiolm_hf
from transformers import pipeline

result = pipeline("audio-continuation", model=sys.argv[1])(sys.argv[2], continuation_length_s=0.5, seed=0)
print(json.dumps([len(result["audio"]), result["sampling_rate"], bool(np.isfinite(result["audio"]).all())]))
"""


@pytest.mark.slow
def test_debug_trains_everything_from_parquet_and_the_pipeline_runs_it(tmp_path):
    clips = sorted(DATA.glob("*.flac"))
    write_parquet(tmp_path / "train.parquet", clips[:2])
    write_parquet(tmp_path / "validation.parquet", clips[2:])
    command = [sys.executable, "-m", "audiolm_hf.cli", "train", "--config", str(ROOT / "configs" / "debug.yaml")]
    command += [f"data.folder={tmp_path}", "data.train=[train.parquet]", "data.validation=[validation.parquet]"]
    variables = environment(tmp_path) | {"PYTHONWARNINGS": "default"}

    def run(arguments):
        return subprocess.run(arguments, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    result = run(command)
    assert result.returncode == 0, result.stderr[-4000:]
    folder = tmp_path / "runs" / "debug"
    names = ["codec", "semantic_encoder", "semantic_tokenizer", "tokens", "semantic", "coarse", "fine", "checkpoint"]
    assert sorted(path.parent.name for path in folder.glob("*/run.json")) == sorted(names)
    log = [json.loads(line) for line in (folder / "codec" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 12 and {"mel", "adversarial", "valid_mel_db"} <= set(log[-1])
    report = json.loads((folder / "coarse" / "report.json").read_text())
    assert report["steps"] == 4 and report["validation"]["all"]["bits"] > 0

    heard = run([sys.executable, "-c", CONTINUE, str(folder / "checkpoint"), str(clips[2])])
    assert heard.returncode == 0, heard.stderr[-4000:]
    num_samples, rate, finite = json.loads(heard.stdout.splitlines()[-1])
    assert finite and rate == 16000 and num_samples > sf.info(clips[2]).frames
    again = run(command)
    assert again.returncode == 0 and again.stderr.count("Done before") == len(names)
