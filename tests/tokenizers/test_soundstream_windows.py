# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The codec decodes any length in windows, with the samples of one pass; it compiles, and refuses what is no audio."""

import math
import subprocess
import sys

import pytest
import torch

from audiolm_hf import codec_interface_audiolm, modeling_soundstream_audiolm
from audiolm_hf.acoustic_codec_audiolm import wrap_acoustic_codec
from tests.conftest import some_slow
from tests.tokenizers.test_modeling_soundstream_audiolm import KINDS, PHASES, tiny_codec

WINDOWED = [(kind, 3) for kind in KINDS] + [(PHASES, 1), (PHASES, 3), (KINDS[3], 1)]
LONG_DECODE = """
import resource, torch
from audiolm_hf import SoundStreamConfig
from audiolm_hf.modeling_soundstream_audiolm import SoundStreamModel
torch.set_num_threads(1)
codec = SoundStreamModel(SoundStreamConfig(num_encoder_layers=1, num_decoder_layers=1, num_codebooks=4)).eval()
peaks = []
with torch.no_grad():
    for seconds in (10, 70):
        codec.decode(torch.zeros(1, 4, seconds * 50, dtype=torch.long))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize(("kind", "num_codebooks"), WINDOWED)
@pytest.mark.parametrize("window", some_slow([1, 7, 64], 7))
def test_windows_give_the_samples_of_one_pass(monkeypatch, kind, num_codebooks, window):
    codec = tiny_codec(**kind)
    codes = torch.randint(16, (2, num_codebooks, 150))
    mask = torch.ones(2, 150, dtype=torch.long)
    mask[1, 83:] = 0
    with torch.no_grad():
        whole = codec.decode(codes, mask).audio_values
        monkeypatch.setattr(modeling_soundstream_audiolm, "DECODE_WINDOW", window)
        assert torch.allclose(codec.decode(codes, mask).audio_values, whole, rtol=1e-3, atol=1e-4)
        assert torch.equal(
            codec.decode(codes, mask, num_samples=333).audio_values, codec.decode(codes, mask).audio_values[:, :333]
        )


@pytest.mark.parametrize(("kind", "num_codebooks"), WINDOWED)
@pytest.mark.parametrize("num_known", [0, 20])
def test_codes_that_arrive_in_pieces_are_decoded_alike(monkeypatch, kind, num_codebooks, num_known):
    codec = wrap_acoustic_codec(tiny_codec(**kind))
    monkeypatch.setattr(codec_interface_audiolm, "STREAM_WINDOWS_S", (2 / codec.frame_rate, 8 / codec.frame_rate))
    codes = torch.randint(16, (2, num_codebooks, 150))
    with torch.no_grad():  # in one pass, with all rounds of phases over all frames
        whole, _ = codec.model.decode_window(codes, None, None, 0, 150)
    windows = torch.cat([*codec.decode_windows(iter([codes]), num_known)], 1)
    assert torch.allclose(windows, whole, rtol=1e-3, atol=1e-4)
    for step in (1, 11):
        pieces = iter(codes.split(step, 2))
        assert torch.equal(torch.cat([*codec.decode_windows(pieces, num_known)], 1), windows)


@pytest.mark.parametrize(("kind", "num_codebooks"), WINDOWED)
def test_no_sample_depends_on_frames_outside_the_context(kind, num_codebooks):
    codec = tiny_codec(**kind)
    before, after = codec.decoder_context(num_codebooks)
    codes = torch.randint(16, (1, num_codebooks, before + after + 3))
    samples = slice((before + 1) * 8, (before + 2) * 8)  # of the frame in the middle
    with torch.no_grad():
        expected = codec.decode(codes).audio_values[:, samples]
        carries_phase = codec.config.decoder_type == "harmonic"  # from the first frame on, see SourceState
        for frame in (before + after + 2,) if carries_phase else (0, before + after + 2):
            changed = codes.clone()
            changed[:, :, frame] = (changed[:, :, frame] + 8) % 16
            assert torch.allclose(codec.decode(changed).audio_values[:, samples], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length():
    result = subprocess.run([sys.executable, "-c", LONG_DECODE], capture_output=True, text=True, check=True)
    # 60 s of samples are 3.8 MB, which are held a few times; one pass takes 100 MB more.
    assert float(result.stdout) < 40


@pytest.mark.parametrize("kind", some_slow(KINDS, KINDS[0]))
def test_encode_and_decode_compile_whole(kind):
    codec = tiny_codec(**kind)
    audio = torch.randn(1, 80)
    with torch.no_grad():
        expected = codec.encode(audio).audio_codes
        decoded = codec.decode(expected).audio_values
        encode = torch.compile(lambda values: codec.encode(values).audio_codes, backend="eager", fullgraph=True)
        decode = torch.compile(lambda codes: codec.decode(codes).audio_values, backend="eager", fullgraph=True)
        assert torch.equal(encode(audio), expected)
        assert torch.allclose(decode(expected), decoded, atol=1e-6)


WAVEFORM = torch.zeros(1, 100)
BAD_WAVEFORMS = [
    (torch.full((1, 100), math.nan), ValueError, "NaN or infinite"),
    (torch.full((1, 100), math.inf), ValueError, "NaN or infinite"),
    (torch.zeros(1, 100, dtype=torch.complex64), TypeError, "complex64"),
    (torch.zeros(1, 100, dtype=torch.bool), TypeError, "bool"),
    (torch.zeros(1, 100, dtype=torch.int16), TypeError, "int16"),
    ([[0.0] * 100], TypeError, "list"),
    (torch.zeros(0, 100), ValueError, "none of them 0"),
]
BAD_MASKS = [
    (torch.full((1, 100), 0.5), ValueError, "neither 0 nor 1"),
    (torch.full((1, 100), -1), ValueError, "neither 0 nor 1|0 everywhere"),
    (torch.full((1, 100), math.nan), ValueError, "neither 0 nor 1|0 everywhere"),
    (torch.ones(1, 99), ValueError, "give that of its input"),
    (torch.ones(2, 100), ValueError, "give that of its input"),
    (torch.zeros(1, 100), ValueError, "0 everywhere"),
    (torch.arange(100)[None] > 50, ValueError, "zeros before ones"),
    (torch.ones(1, 100, dtype=torch.complex64), TypeError, "complex64"),
]
CALLS = {
    "encode": lambda codec, *inputs: codec.encode(*inputs),
    "forward": lambda codec, *inputs: codec(*inputs),
    "contract": lambda codec, *inputs: wrap_acoustic_codec(codec).encode(*inputs),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("waveform", "error", "message"), BAD_WAVEFORMS)
def test_what_is_no_waveform_is_refused(call, waveform, error, message):
    with pytest.raises(error, match=message):
        CALLS[call](tiny_codec(), waveform)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("mask", "error", "message"), BAD_MASKS)
def test_what_is_no_mask_is_refused(call, mask, error, message):
    with pytest.raises(error, match=message):
        CALLS[call](tiny_codec(), WAVEFORM, mask)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"audio_codes": torch.zeros(1, 3, 5)}, TypeError, "float32"),
        ({"audio_codes": torch.zeros(1, 3, 5, dtype=torch.bool)}, TypeError, "bool"),
        ({"audio_codes": torch.zeros(1, 3, 0, dtype=torch.long)}, ValueError, "none of them 0"),
        ({"num_samples": -1}, ValueError, "num_samples is -1"),
        ({"num_samples": 41}, ValueError, "num_samples is 41"),
        ({"num_samples": 1.5}, ValueError, "num_samples is 1.5"),
        ({"attention_mask": torch.full((1, 5), 0.5)}, ValueError, "neither 0 nor 1"),
        ({"attention_mask": torch.ones(1, 6)}, ValueError, "give that of its input"),
    ],
)
def test_what_cannot_be_decoded_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        tiny_codec().decode(**{"audio_codes": torch.zeros(1, 3, 5, dtype=torch.long), **arguments})


@pytest.mark.parametrize("num_codebooks", [1.5, True, "2"])
def test_levels_are_whole_numbers(num_codebooks):
    for encode in (tiny_codec().encode, wrap_acoustic_codec(tiny_codec()).encode):
        with pytest.raises(ValueError, match="num_codebooks is"):
            encode(WAVEFORM, num_codebooks=num_codebooks)
