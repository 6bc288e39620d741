# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Every form in which audio comes is the same batch, and what a model makes goes to arrays and files."""

import array
import copy
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import soundfile
import soxr
import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments, pipeline

from audiolm_hf.audio_file_audiolm import read_audio
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.processing_audiolm import AudioLMProcessor, is_clip

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "librispeech_19-198-0008.flac"
OTHER = DATA / "librispeech_118-47824-0071.flac"


@pytest.fixture
def processor() -> AudioLMProcessor:
    return AudioLMProcessor(AudioLMFeatureExtractor())


@pytest.fixture
def samples() -> np.ndarray:
    return read_audio(CLIP)[0][0]


def broken_decoder():
    raise RuntimeError("no frames")


def torchcodec_forms() -> list:
    """What `datasets` gives for a column of the type Audio, and its samples; the real ones where they are there."""
    try:
        from torchcodec.decoders import AudioDecoder
    except (ImportError, OSError, RuntimeError):  # not installed, or without the ffmpeg it wants
        audio = SimpleNamespace(data=torch.from_numpy(read_audio(CLIP)[0]), sample_rate=16000, pts_seconds=0.0)
        return [SimpleNamespace(get_all_samples=lambda: audio), audio]
    return [AudioDecoder(str(CLIP)), AudioDecoder(str(CLIP)).get_all_samples()]


def test_every_form_is_the_same_batch(processor, samples):
    forms = [
        str(CLIP),
        CLIP,
        CLIP.read_bytes(),
        {"array": samples, "sampling_rate": 16000},
        {"raw": samples, "sampling_rate": 16000},
        {"bytes": CLIP.read_bytes(), "path": "elsewhere.flac"},
        {"bytes": None, "path": str(CLIP)},
        {"array": torch.from_numpy(samples), "sampling_rate": 16000},
    ]
    integers = (samples * 2**15).astype(np.int16)
    forms += [
        (16000, integers),
        {"audio": samples, "sampling_rate": 16000},
        {"audio": {"path": str(CLIP), "bytes": None}, "text": "a row of a dataset"},
        *torchcodec_forms(),
        {"audio": torchcodec_forms()[0], "text": "a row of a dataset"},
    ]
    for bare in (samples, torch.from_numpy(samples), samples.tolist(), samples[None]):
        assert torch.equal(processor(bare, sampling_rate=16000)["input_values"], torch.from_numpy(samples)[None])
    for form in forms:
        batch = processor(form)
        assert set(batch) == {"input_values", "attention_mask"}
        assert torch.equal(batch["input_values"], torch.from_numpy(samples)[None])
    together = processor(forms)
    assert together["input_values"].shape == (len(forms), len(samples))


def test_clips_of_different_rates_lengths_and_forms_make_one_batch(processor, samples, tmp_path):
    stereo = soxr.resample(np.stack([samples, samples], axis=1), 16000, 44100)
    soundfile.write(tmp_path / "stereo.wav", stereo, 44100, subtype="FLOAT")
    batch = processor([OTHER, tmp_path / "stereo.wav", {"array": samples[:8000], "sampling_rate": 8000}])
    assert batch["attention_mask"].sum(-1).tolist() == [46400, 40000, 16000]
    difference = batch["input_values"][1, 2000:38000] - torch.from_numpy(samples[2000:38000])
    assert difference.abs().max() < 0.01


def test_a_stereo_tuple_of_gradio_has_its_channels_last(processor, samples):
    stereo = (np.stack([samples, np.zeros_like(samples)], axis=1) * 2**15).astype(np.int16)
    row = processor((16000, stereo))["input_values"][0]
    np.testing.assert_allclose(row, samples / 2, atol=1e-6)
    batch = processor([(16000, stereo), (8000, stereo)])
    assert batch["attention_mask"].sum(-1).tolist() == [40000, 80000]


def test_columns_and_iterators_of_clips_are_lists(processor):
    column = Dataset.from_dict({"audio": [{"bytes": path.read_bytes(), "path": None} for path in (CLIP, OTHER)]})[
        "audio"
    ]
    expected = processor([CLIP, OTHER])["input_values"]
    for clips in (column, iter([CLIP, OTHER]), {CLIP: 0, OTHER: 1}.keys(), (CLIP, OTHER)):
        assert torch.equal(processor(clips)["input_values"], expected)


def memory_mapped(samples):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=np.float32, shape=samples.shape)
    mapped[:] = samples
    return mapped


ARRAYS = {
    "pandas series": lambda samples: pandas.Series(samples, index=range(5, 5 + len(samples))),
    "pandas frame of channels": lambda samples: pandas.DataFrame({"left": samples, "right": samples}).T,
    "array of the standard library": lambda samples: array.array("f", samples),
    "masked array without a masked sample": np.ma.array,
    "big-endian": lambda samples: samples.astype(">f4"),
    "big-endian integers": lambda samples: (samples * 2**15).astype(">i2"),
    "memory-mapped": memory_mapped,
    "read-only": lambda samples: np.frombuffer(samples.tobytes(), np.float32),
    "not contiguous": lambda samples: np.repeat(samples, 2)[::2],
    "in the order of Fortran": lambda samples: np.asfortranarray([samples, samples]),
    "long double": lambda samples: samples.astype(np.longdouble),
    "with a gradient": lambda samples: torch.from_numpy(samples).requires_grad_(),
    "matrix of one channel": lambda samples: samples[None],
}


@pytest.mark.parametrize("form", ARRAYS)
def test_every_kind_of_array_is_one_clip(processor, samples, form):
    given = ARRAYS[form](samples)
    assert is_clip(given)
    batch = processor(given, sampling_rate=16000)["input_values"]
    assert torch.equal(batch, torch.from_numpy(samples)[None])
    assert torch.equal(processor({"array": given, "sampling_rate": 16000})["input_values"], batch)


@pytest.mark.parametrize(
    "make",
    [lambda clips: np.array(clips, dtype=object), pandas.Series, lambda clips: [clip.tolist() for clip in clips]],
)
def test_arrays_of_arrays_are_lists_of_clips(processor, samples, make):
    batch = processor(make([samples, samples[:8000]]), sampling_rate=16000)
    assert batch["attention_mask"].sum(1).tolist() == [len(samples), 8000]


NOISE = np.linspace(-0.5, 0.5, 16000, dtype=np.float32)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.ma.array(NOISE, mask=NOISE > 0.2), ValueError, "masked array; fill what is masked"),
        (np.ma.masked_invalid(np.where(NOISE > 0.4, np.nan, NOISE)), ValueError, "masked array"),
        (np.stack([NOISE] * 4), ValueError, "4 channels. Give several recordings as a list, such as list"),
        (torch.zeros(3, 16000), ValueError, "3 channels"),
        ({"array": torch.zeros(8, 16000), "sampling_rate": 16000}, ValueError, "8 channels"),
        (np.stack([NOISE] * 2)[:, None], ValueError, r"shape \(2, 1, 16000\)"),
        (pandas.DataFrame({"left": NOISE, "right": NOISE}), ValueError, "more channels than samples"),
        (NOISE.astype(np.complex64), TypeError, "dtype complex64"),
        (NOISE > 0, TypeError, "dtype bool"),
        (NOISE.astype(object), TypeError, "Recording 0 is of type float"),
        (torch.from_numpy(NOISE).to_sparse(), TypeError, "cannot be read as an array of numbers"),
        ("", ValueError, "path of the audio file is empty"),
        ("a\0b", FileNotFoundError, "embedded null byte"),
        ("x" * 5000, FileNotFoundError, "File name too long"),
        ("~nobody-of-this-name/a.wav", FileNotFoundError, "does not exist"),
        ("/dev/zero", FileNotFoundError, "is not a file"),
    ],
)
def test_what_could_be_misread_is_refused(processor, given, error, message):
    with pytest.raises(error, match=message):
        processor(given, sampling_rate=16000)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_files_are_resampled_while_they_are_read(processor, tmp_path, suffix, rate):
    audio = np.random.default_rng(0).uniform(-0.4, 0.4, (150_001, 2)).astype(np.float32)
    soundfile.write(tmp_path / f"a{suffix}", audio, rate)
    channels, _ = read_audio(tmp_path / f"a{suffix}")
    expected = processor(channels, sampling_rate=rate)["input_values"]
    assert torch.equal(processor(tmp_path / f"a{suffix}")["input_values"], expected)


def test_numpy_comes_out_where_asked(processor):
    assert isinstance(processor(CLIP, return_tensors="np")["input_values"], np.ndarray)


@pytest.mark.parametrize(
    ("audio", "error", "message"),
    [
        (None, ValueError, "audio is None"),
        ([], ValueError, "empty list"),
        (7, TypeError, "of type int"),
        (np.float32(7), TypeError, "of type float32"),
        ({}, ValueError, "dictionary with the keys"),
        ({"text": "hello"}, ValueError, r"keys \['text'\]"),
        ({"bytes": None, "path": None}, ValueError, "keys"),
        ({"array": np.ones(8000)}, ValueError, "sampling_rate is missing"),
        (np.ones(8000), ValueError, "sampling_rate is missing"),
        (b"RIFF....WAVE", ValueError, "cannot be decoded"),
        ("missing.wav", FileNotFoundError, "does not exist"),
        ([CLIP, None], TypeError, "Recording 1 is of type NoneType"),
        ([[CLIP, OTHER], CLIP], TypeError, "Recording 0 is a list of 2 inside another list"),
        ([CLIP, {"array": np.ones(8000)}], ValueError, "sampling_rate is missing"),
        ((10**9, np.ones(8000)), ValueError, "the rate of audio is 1000000000"),
        (iter([]), ValueError, "empty list"),
        (SimpleNamespace(get_all_samples=broken_decoder), ValueError, "cannot be decoded by torchcodec .no frames"),
    ],
)
def test_what_is_not_audio_is_one_clear_error(processor, audio, error, message):
    with pytest.raises(error, match=message):
        processor(audio)


def test_unknown_options_are_refused(processor):
    with pytest.raises(TypeError, match="'samplingrate'"):
        processor(CLIP, samplingrate=16000)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 1, 10**9])
def test_an_absurd_rate_is_refused_even_where_it_is_not_needed(processor, rate):
    with pytest.raises(ValueError, match="sampling_rate is"):
        processor(CLIP, sampling_rate=rate)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_stays_on_the_right(processor, side):
    with pytest.raises(TypeError, match="padding_side"):
        processor([CLIP, OTHER], padding_side=side)


def output() -> dict[str, torch.Tensor]:
    values = torch.linspace(-0.5, 0.5, 40).reshape(2, 20)
    return {
        "audio_values": values,
        "audio_lengths": torch.tensor([20, 13]),
        "prompt_lengths": torch.tensor([8, 5]),
    }


def test_rows_are_cut_to_their_lengths(processor):
    values = output()["audio_values"].numpy()
    full = processor.batch_decode(output())
    assert [row.shape for row in full] == [(20,), (13,)]
    np.testing.assert_array_equal(full[1], values[1, :13])
    alone = processor.batch_decode(output(), return_full_audio=False)
    np.testing.assert_array_equal(alone[0], values[0, 8:20])
    np.testing.assert_array_equal(alone[1], values[1, 5:13])


def test_generated_audio_is_saved_with_its_origin(processor, tmp_path):
    paths = processor.save_audio(output(), [tmp_path / "a.wav", tmp_path / "b.flac"], checkpoint="tiny", seed=3)
    assert [len(read_audio(path)[0][0]) for path in paths] == [20, 13]
    for path in paths:
        with soundfile.SoundFile(path) as file:
            assert file.comment.startswith("Synthetic audio generated by audiolm_hf: {")


def test_a_pipeline_result_is_saved(processor, tmp_path):
    result = {"audio": np.full(100, 0.25, np.float32), "sampling_rate": 16000}
    (path,) = processor.save_audio(result, tmp_path / "a.wav")
    np.testing.assert_allclose(read_audio(path)[0][0], 0.25, atol=1e-4)
    with pytest.raises(ValueError, match="1 recordings were given for 2 paths"):
        processor.save_audio(result, [tmp_path / "b.wav", tmp_path / "c.wav"])
    with pytest.raises(ValueError, match="give each recording a path of its own"):
        processor.save_audio([result, result], [tmp_path / "b.wav", f"{tmp_path}/./b.wav"])
    assert not (tmp_path / "b.wav").exists()


def test_audio_is_saved_at_its_own_rate_and_scaled_by_its_type(processor, tmp_path):
    half = np.full(100, 2**14, np.int16)
    clips = [half, {"audio": half, "sampling_rate": 44100}, (24000, half), torch.full((100,), 0.5).bfloat16()]
    paths = processor.save_audio(clips, [tmp_path / f"{index}.wav" for index in range(4)])
    for path, expected in zip(paths, [16000, 44100, 24000, 16000], strict=True):
        audio, rate = read_audio(path)
        assert rate == expected and audio.shape == (1, 100)
        np.testing.assert_allclose(audio, 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("audio", "path", "error", "message"),
    [
        (np.zeros(10), "missing/a.wav", FileNotFoundError, "missing' of the output file is not there; make it first"),
        (np.zeros(10), "a.m4a", ValueError, "must end in"),
        ({"audio": np.zeros(10), "sampling_rate": 44100}, "a.opus", ValueError, ".opus files have 8000"),
        ({"audio": np.zeros(10), "sampling_rate": 0}, "a.wav", ValueError, "sampling_rate is 0"),
        ([0, 100, 200], "a.wav", TypeError, "a list of whole numbers"),
        (np.zeros(10) + 20000.0, "a.wav", ValueError, "floats up to 20000"),
        (np.zeros((1, 10)), "a.wav", ValueError, r"Recording 0 has shape \(1, 10\)"),
        ("b.wav", "a.wav", TypeError, "Recording 0 is a file"),
        (7, "a.wav", TypeError, "Recording 0 is of type int"),
        (None, "a.wav", TypeError, "Recording 0 is of type NoneType"),
        ({"sampling_rate": 16000}, "a.wav", ValueError, "dictionary with the keys"),
    ],
)
def test_what_cannot_be_saved_is_one_clear_error(processor, tmp_path, audio, path, error, message):
    with pytest.raises(error, match=message):
        processor.save_audio(audio, tmp_path / path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [None, 3, [None]])
def test_a_saving_path_is_a_path(processor, path):
    with pytest.raises(TypeError, match="saving_path is"):
        processor.save_audio(np.zeros(10), path)


def test_what_was_not_generated_is_not_decoded(processor):
    with pytest.raises(ValueError, match="no audio_lengths, audio_values, prompt_lengths; give what"):
        processor.batch_decode({})
    with pytest.raises(ValueError, match="return_full_audio is 'no'"):
        processor.batch_decode(output(), return_full_audio="no")


def test_nothing_is_saved_where_one_of_several_cannot_be(processor, tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        processor.save_audio([np.zeros(10), np.zeros(10)], [tmp_path / "a.wav", tmp_path / "b.txt"])
    assert not list(tmp_path.iterdir())


def test_the_processor_survives_saving(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    again = AudioLMProcessor.from_pretrained(tmp_path, feature_extractor=AudioLMFeatureExtractor())
    assert again.to_dict() == processor.to_dict()
    assert SimpleNamespace(**again.to_dict()).processor_class == "AudioLMProcessor"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chat_template": "x"}, "AudioLMProcessor has no key 'chat_template'"),
        ({"feature_extractor": 3}, "feature_extractor is 3; give the fields of an AudioLMFeatureExtractor"),
        ({"feature_extractor": {"samplin_rate": 8000}}, "no key 'samplin_rate'; did you mean 'sampling_rate'"),
        ({"feature_extractor": {"feature_size": True}}, "feature_size is True; give 1"),
    ],
)
def test_what_a_processor_does_not_have_is_refused(change, message, tmp_path):
    AudioLMProcessor(AudioLMFeatureExtractor()).save_pretrained(tmp_path)
    path = tmp_path / "processor_config.json"
    fields = json.loads(path.read_text())
    if isinstance(change.get("feature_extractor"), dict):
        change = {"feature_extractor": fields["feature_extractor"] | change["feature_extractor"]}
    path.write_text(json.dumps(fields | change))
    with pytest.raises(ValueError, match=message):
        AudioLMProcessor.from_pretrained(tmp_path)


def test_trainer_is_given_the_feature_extractor(processor, tiny_audiolm, tmp_path):
    assert not hasattr(processor, "tokenizer")
    clips = [
        {"input_values": 0.1 * np.random.default_rng(0).standard_normal(size).astype(np.float32)}
        for size in (6400, 4000)
    ]
    options = {"max_steps": 1, "report_to": "none", "use_cpu": True, "per_device_train_batch_size": 2}
    arguments = TrainingArguments(tmp_path, save_strategy="no", disable_tqdm=True, **options)
    with pytest.raises(AttributeError, match="processing_class=processor.feature_extractor"):
        Trainer(tiny_audiolm, arguments, train_dataset=clips, processing_class=processor).train()
    trainer = Trainer(
        copy.deepcopy(tiny_audiolm), arguments, train_dataset=clips, processing_class=processor.feature_extractor
    )
    assert np.isfinite(trainer.train().training_loss)
    trainer.save_model(tmp_path / "saved")
    assert len(pipeline("audio-continuation", model=str(tmp_path / "saved"))(CLIP, continuation_length_s=0.2))


def test_a_file_of_a_processor_that_is_no_object_is_refused(tmp_path):
    (tmp_path / "processor_config.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        AudioLMProcessor.from_pretrained(tmp_path)
