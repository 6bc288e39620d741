# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Thousands of bad and odd inputs: each is answered by one clear error or a right result, and none hangs.

`AUDIOLM_ODD_INPUTS=5` tries five times as many, `AUDIOLM_ODD_SEED=1` others.
"""

import pytest
import torch

from tests import odd_audio, odd_files, odd_objects
from tests.odd_inputs import try_all

FAMILIES = {**odd_objects.FAMILIES, **odd_audio.FAMILIES, **odd_files.FAMILIES}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Of soundfile, where a damaged file has it seek before its beginning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_each_input_is_answered_clearly(family):
    tally = try_all(family, FAMILIES[family], family.__name__)
    assert not tally.faults, str(tally)
    assert tally.counts["right"] > 0 and tally.counts["refused"] > 0, str(tally)
