# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What long prompts cost, with the bundled checkpoint."""

import pytest

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
