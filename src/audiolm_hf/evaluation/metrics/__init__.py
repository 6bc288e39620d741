# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Metrics of waveforms and tokens."""
