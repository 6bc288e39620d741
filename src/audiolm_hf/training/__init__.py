# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Trainings of all parts, each configured by a YAML file."""
