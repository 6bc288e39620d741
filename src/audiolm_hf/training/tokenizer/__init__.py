# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Training of the semantic tokenizer: encoder, centroids and speaker invariance."""
