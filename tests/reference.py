# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Slow, obvious versions of every clever part, one loop at a time; the tests compare with them."""


# --- residual vector quantizer -------------------------------------------------------------------------------------


def nearest_code(vector, codebook):
    """Index of the row of `codebook` nearest to `vector`, by looking at one after the other."""
    distances = [float(((vector - code) ** 2).sum()) for code in codebook]
    return distances.index(min(distances))


def residual_codes(vectors, codebooks):
    """Codes of every vector, level by level: each level quantises what the one before left over."""
    rows = []
    for vector in vectors:
        residual, codes = vector.clone(), []
        for codebook in codebooks:
            code = nearest_code(residual, codebook)
            residual = residual - codebook[code]
            codes.append(code)
        rows.append(codes)
    return rows


def ema_codebook_update(codebook, counts, sums, vectors, codes, decay):
    """Moving-average codebook after one batch (SoundStream): averages of counts and sums, then their quotient."""
    updated = codebook.clone()
    for index in range(len(codebook)):
        members = [vector for vector, code in zip(vectors, codes.tolist(), strict=True) if code == index]
        count = decay * counts[index] + (1 - decay) * len(members)
        total = decay * sums[index] + (1 - decay) * sum(members, codebook[index] * 0)
        updated[index] = total / count
    return updated
