# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""One trainer per kind of thing, each started by a YAML file."""
