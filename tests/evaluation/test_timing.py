# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
import time

from audiolm_hf.evaluation.speed import device_name, synchronize, time_call


def test_a_call_takes_as_long_as_it_takes():
    calls = []

    def run():
        calls.append(1)
        time.sleep(0.05)

    assert 0.05 <= time_call(run, "cpu") < 5
    assert calls == [1]


def test_a_cpu_has_a_name_and_nothing_to_wait_for():
    synchronize("cpu")
    assert "CPU, " in device_name("cpu") and device_name("cpu").endswith("threads")
    assert device_name("mps") == "mps"
