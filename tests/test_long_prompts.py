# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What long prompts cost, with the bundled checkpoint."""

import json

import pytest

from tests.helpers_checkpoint import CLIP, run_python

MEASURE = """
import json, resource, sys, time
import numpy as np, soundfile as sf, torch
import audiolm_hf
torch.set_num_threads(1)
pipe = audiolm_hf.pipeline(device="cpu")
clip, rate = sf.read(sys.argv[1], dtype="float32")
prompt = np.resize(clip, int(sys.argv[2]) * rate)
seconds = []
for _ in range(4):
    start = time.process_time()
    audio = pipe(prompt, sampling_rate=rate, continuation_length_s=3, min_continuation_length_s=3, seed=0)["audio"]
    seconds.append(time.process_time() - start)
assert audio.shape == (len(prompt) + 3 * rate,) and (audio[: len(prompt)] == prompt).all()
print(json.dumps([min(seconds), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


@pytest.mark.slow
def test_ten_minutes_cost_little_more_than_one(tmp_path):
    (short_s, short_bytes), (long_s, long_bytes) = (
        json.loads(run_python(MEASURE, CLIP, seconds, home=tmp_path)) for seconds in (60, 600)
    )
    assert long_s < 1.2 * short_s
    assert long_bytes < 1.2 * short_bytes
