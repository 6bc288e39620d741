# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""What several trainings begin with."""

import pytest

from tests.helpers_checkpoint import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The folder of a tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder
