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
from audiolm_hf import cli
arguments = ["--length-s", "3", "--device", "cpu", "--threads", "1", "--quiet", "--overwrite"]
assert cli.main(["continue", sys.argv[1], "-o", sys.argv[2], *arguments]) == 0
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss, used.ru_utime)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "subtype", "most"),
    [(".mp3", None, 1.2), (".flac", None, 1.2), (".wav", None, 1.2), (".ogg", "OPUS", 1.7)],  # libopus decodes slowly
)
def test_a_file_of_ten_minutes_takes_little_more_than_one_of_one(tmp_path, suffix, subtype, most):
    rate = 48000 if subtype else 44100
    clip = soxr.resample(soundfile.read(CLIP, dtype="float32")[0], 16000, rate)
    used = {}
    for seconds in (60, 600):
        path = tmp_path / f"{seconds}{suffix}"
        with soundfile.SoundFile(path, "w", rate, 2, subtype) as file:
            for _ in range(round(seconds * rate / len(clip))):
                file.write(np.stack([clip, 0.5 * clip], 1))
        used[seconds] = [
            float(number) for number in run_python(COMMAND, path, tmp_path / "out.wav", home=tmp_path).split()
        ]
    (memory, user), (long_memory, long_user) = used.values()
    assert long_memory < 1.2 * memory and long_user < most * user
