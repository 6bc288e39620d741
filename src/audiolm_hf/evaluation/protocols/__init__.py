# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Evaluation protocols, each with its baselines."""
