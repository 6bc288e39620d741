# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What long prompts cost, with the bundled checkpoint."""

import numpy as np
import pytest
import soundfile
import soxr

from tests.helpers_checkpoint import CLIP, run_python

MEASURE = """
import resource, sys
import numpy as np, soundfile as sf, torch
import audiolm_hf
torch.set_num_threads(1)
pipe = audiolm_hf.pipeline(device="cpu")
clip, rate = sf.read(sys.argv[1], dtype="float32")
prompt = np.resize(clip, int(sys.argv[2]) * rate)
audio = pipe(prompt, sampling_rate=rate, continuation_length_s=3, min_continuation_length_s=3, seed=0)["audio"]
assert audio.shape == (len(prompt) + 3 * rate,) and (audio[: len(prompt)] == prompt).all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_ten_minutes_take_little_more_memory_than_one(tmp_path):
    short, long = (int(run_python(MEASURE, CLIP, seconds, home=tmp_path)) for seconds in (60, 600))
    assert long < 1.2 * short


COMMAND = """
import resource, sys
import soundfile
from audiolm_hf import cli
decoded, read = 0, soundfile.SoundFile._cdata_io
def count(file, action, data, ctype, frames):
    global decoded
    done = read(file, action, data, ctype, frames)
    decoded += done if action == "read" else 0
    return done
soundfile.SoundFile._cdata_io = count
arguments = ["--length-s", "3", "--device", "cpu", "--threads", "1", "--quiet", "--overwrite"]
assert cli.main(["continue", sys.argv[1], "-o", sys.argv[2], *arguments]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, decoded)
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".wav", ".ogg"])
def test_a_file_of_ten_minutes_takes_the_memory_of_one_and_is_decoded_once(tmp_path, suffix):
    rate, subtype = (48000, "OPUS") if suffix == ".ogg" else (44100, None)
    clip = soxr.resample(soundfile.read(CLIP, dtype="float32")[0], 16000, rate)
    memory = {}
    for seconds in (60, 600):
        path = tmp_path / f"{seconds}{suffix}"
        with soundfile.SoundFile(path, "w", rate, 2, subtype) as file:
            for _ in range(round(seconds * rate / len(clip))):
                file.write(np.stack([clip, 0.5 * clip], 1))
        used, decoded = run_python(COMMAND, path, tmp_path / "out.wav", home=tmp_path).split()
        memory[seconds] = int(used)
        assert 0 < int(decoded) <= soundfile.info(path).frames + rate  # its beginning is looked at first
    assert memory[600] < 1.2 * memory[60]
