# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Baselines: Opus, n-grams and k-means clusters of spectra."""
