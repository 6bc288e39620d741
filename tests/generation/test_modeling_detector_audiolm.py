# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""The detector: padding, loudness and dtype do not matter, scores are those of slow loops, folders load anywhere."""

import copy

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoModelForAudioClassification, pipeline

import audiolm_hf
from audiolm_hf import AudioLMDetectorConfig, AudioLMDetectorForAudioClassification, export_checkpoint
from audiolm_hf import modeling_detector_audiolm as module
from tests import reference
from tests.helpers_checkpoint import CLIP, OTHER_CLIP

RATE = 16000


@pytest.fixture(scope="module")
def detector():
    """A detector whose weights are large enough that its scores differ."""
    torch.manual_seed(0)
    return AudioLMDetectorForAudioClassification(AudioLMDetectorConfig(initializer_range=0.05)).eval()


@pytest.fixture(scope="module")
def clips():
    """Two recordings of speech, the second shorter, as a padded batch with its mask."""
    rows = [torch.from_numpy(audiolm_hf.read_audio(path, RATE)[0]) for path in (CLIP, OTHER_CLIP)]
    rows = [rows[0][:30011], rows[1][:12345]]
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.tensor([[1] * len(row) + [0] * (values.shape[1] - len(row)) for row in rows])
    return values, mask


def test_padding_does_not_matter(detector, clips):
    values, mask = clips
    together, seconds = detector(values, mask).logits, detector.scores_per_second(values, mask)
    assert together.shape == (2, 2) and seconds.shape == (2, 2)
    noisy = torch.where(mask == 1, values, torch.rand(values.shape))
    assert torch.allclose(detector(noisy, mask).logits, together, atol=1e-5)  # what is in the padding is not read
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = values[row : row + 1, :length]
        assert torch.allclose(detector(alone).logits[0], together[row], atol=1e-5)
        own = detector.scores_per_second(alone)[0]
        assert torch.allclose(own, seconds[row, : len(own)], atol=1e-5) and seconds[row, len(own) :].isnan().all()
    assert abs(together[0] - together[1]).max() > 1e-2


def test_loudness_does_not_matter(detector, clips):
    values, mask = clips
    assert torch.allclose(detector(0.1 * values, mask).logits, detector(values, mask).logits, atol=1e-3)


def test_a_constant_offset_does_not_matter(detector, clips):
    values, mask = clips
    for offset in (0.01, -0.3):
        assert torch.allclose(detector(values + offset, mask).logits, detector(values, mask).logits, atol=1e-3)


def test_torch_defaults_do_not_matter(detector, clips):
    expected = detector(*clips).logits
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            logits = detector(*clips).logits
        finally:
            torch.set_default_dtype(torch.float32)
        assert logits.dtype == torch.float32 and torch.allclose(logits, expected, atol=1e-5)


def test_an_offloaded_detector_is_the_same(detector, clips, tmp_path):
    detector.save_pretrained(tmp_path / "detector")
    expected = detector(*clips).logits, detector.scores_per_second(*clips)
    for options in ({"device_map": {"": "disk"}}, {"device_map": "auto", "max_memory": {"cpu": "1KB"}}):
        loaded = AudioLMDetectorForAudioClassification.from_pretrained(
            tmp_path / "detector", offload_folder=tmp_path / "offload", **options
        )
        assert loaded.classifier.weight.device.type == "meta"
        assert torch.equal(loaded(*clips).logits, expected[0])
        assert torch.equal(loaded.scores_per_second(*clips).nan_to_num(), expected[1].nan_to_num())


def test_a_scale_of_zeros_is_an_error_and_no_verdict(detector, clips):
    damaged = copy.deepcopy(detector)
    damaged.scale[5] = 0.0
    with pytest.raises(ValueError, match="The detector has values that are NaN or infinite, due to its weights"):
        damaged.judge(clips[0][:1])


def test_several_recordings_have_no_single_verdict(detector, clips):
    with pytest.raises(ValueError, match="input_values has 2 rows; give one"):
        detector.judge(*clips)


def test_scores_are_those_of_slow_loops(detector, clips):
    values = clips[0][:1]
    frame_logits = detector._frame_logits(values, None)[0][0].tolist()
    expected = reference.window_scores(frame_logits, 50)
    assert len(expected) == 2 and len(frame_logits) == 93  # of 186 whole windows of 25 ms every 10 ms
    assert np.allclose(detector.scores_per_second(values)[0], expected, atol=1e-5)
    (whole,) = reference.window_scores(frame_logits, 1000)
    assert np.isclose(float(detector(values).logits.softmax(-1)[0, module.REAL].detach()), whole, atol=1e-5)


def test_silence_between_and_around_sounds_does_not_matter(detector, clips):
    clip = clips[0][0]
    loud = detector(clip[None]).logits
    for level in (0.0, 1e-5):
        quiet = level * torch.randn(16640, generator=torch.Generator().manual_seed(0))
        padded = torch.cat([quiet, clip, quiet])[None]
        assert torch.allclose(detector(padded).logits, loud, atol=0.15)
        seconds = detector.scores_per_second(padded)[0]
        assert seconds.isnan().tolist() == [True, False, False, True]


def test_features_are_those_of_slow_loops(detector, clips):
    values, mask = clips
    ((changes, loud),) = detector._blocks(values, mask)
    changes = list(changes)
    assert [tuple(change.shape[1:]) for change, _ in changes] == [(93, 128)] * 11 + [(186, 80)] * 11
    clip = values[1, :12345].double().numpy()
    clip = np.pad(clip - clip.mean(), (232, 1024))
    window = 0.5 - 0.5 * np.cos(np.arange(1024) * np.pi / 512)
    power = [np.abs(np.fft.rfft(clip[320 * frame :][:1024] * window)[1:129]) ** 2 for frame in range(38)]
    spectrum = np.log(np.array(power) + 1e-10)
    means = np.exp(spectrum).sum(1)
    expected = means >= means.mean() * np.exp(-8)
    assert loud[1].tolist() == expected.tolist() + [False] * 55 and 20 < expected.sum() < 38
    assert not any((present & ~loud).any() for _, present in changes[:11])
    low = reference.spectral_changes(spectrum, expected)
    for number, (change, present) in enumerate(changes[:11]):
        values, defined = low[number]
        assert present[1, :38].tolist() == defined
        assert np.allclose(change[1, :38][defined], values[defined], atol=5e-3), number


def test_features_of_training_clips_have_mean_0_and_scale_1(clips):
    model = AudioLMDetectorForAudioClassification(AudioLMDetectorConfig())
    rows = [(clips[0][:, start : start + 8000], None) for start in (0, 4000)]
    model.standardize_(rows)
    means = torch.cat([model._clip_means(*row) for row in rows])
    assert torch.allclose(model.mean, means.mean(0)) and torch.allclose(model.scale, means.std(0) + 0.01)
    assert 0.2 < model.scale.median() < 2


def test_long_clips_are_processed_in_blocks(detector, clips, monkeypatch):
    clip = clips[0][:1]
    values = torch.cat([clip, torch.zeros(1, 32000), clip], dim=1)
    expected, loud = detector._frame_logits(values, None)
    means = detector._clip_means(values, None)
    monkeypatch.setattr(module, "_BLOCK", 50)
    blocks = [(list(changes), mask) for changes, mask in detector._blocks(values, None)]
    assert [mask.shape[1] for _, mask in blocks] == [48, 48, 48, 48, 48, 47]  # of 287 frames
    assert all(change.shape[1] <= 2 * mask.shape[1] for changes, mask in blocks for change, _ in changes)
    found, mask = detector._frame_logits(values, None)
    assert torch.equal(mask, loud) and not mask[:, 96:144].any()  # the third block is silent
    pair = torch.stack([each.diff(dim=-1)[loud].flatten() for each in (found, expected)])
    assert torch.corrcoef(pair)[0, 1] > 0.95 and found.isfinite().all()  # blocks have their own peaks and means
    assert (detector._clip_means(values, None) - means).abs().mean() < 0.1 * means.abs().mean()


def odds(detector, parts):
    """The log odds of generated audio of one row of frames, whose parts have `(logit, count)`; silent without one."""
    frames = torch.cat([torch.full((count,), logit or 0.0) for logit, count in parts])
    loud = torch.cat([torch.full((count,), logit is not None) for logit, count in parts])
    logits = torch.stack([frames, torch.zeros_like(frames)], dim=1)
    detector._frame_logits = lambda *_: (logits[None], loud[None])
    found, judged = detector(torch.zeros(1, 8000)).logits[0], detector.judge(torch.zeros(1, 8000))
    assert judged["score"] == pytest.approx(float(found.softmax(-1)[module.REAL]))
    return float(found[0] - found[1]), judged["most_suspicious_s"]


def test_the_most_suspicious_stretch_decides(detector):
    detector, length = copy.deepcopy(detector), module.STRETCH
    assert odds(detector, [(-4.0, 100)]) == (pytest.approx(-4.0), [0.0, 2.0])
    assert odds(detector, [(-4.0, 50), (None, 100), (2.0, 50)]) == (pytest.approx(-1.0), [0.0, 4.0])
    mixed, seconds = odds(detector, [(-4.0, length), (None, 200), (6.0, length), (-4.0, length)])
    assert mixed > 3.0 and seconds == [(length + 200) / 50, (2 * length + 200) / 50]
    for count in (length, 5 * length, 50 * length):  # an even recording has the same score at any length
        assert odds(detector, [(-1.5, count)])[0] == pytest.approx(-1.5, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_close(detector, clips, dtype, tmp_path):
    detector.save_pretrained(tmp_path)
    half = AudioLMDetectorForAudioClassification.from_pretrained(tmp_path, dtype=dtype)
    logits = half(*clips).logits
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, detector(*clips).logits, atol=0.1 if dtype == torch.bfloat16 else 0.02)
    assert half(clips[0].to(dtype), clips[1]).logits.isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.allclose(detector(*clips).logits, detector(*clips).logits, atol=0.1)


def test_loss_is_the_cross_entropy_and_trains_every_weight(clips):
    model = AudioLMDetectorForAudioClassification(AudioLMDetectorConfig())
    labels = torch.tensor([1, 0])
    outputs = model(*clips, labels=labels)
    expected = -outputs.logits.log_softmax(-1)[torch.arange(2), labels].mean()
    assert torch.isclose(outputs.loss, expected)
    before = {name: value.clone() for name, value in model.named_parameters()}
    outputs.loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert [name for name, value in model.named_parameters() if torch.equal(value, before[name])] == []


def test_the_default_fits_into_three_megabytes():
    model = AudioLMDetectorForAudioClassification(AudioLMDetectorConfig())
    assert 2 * model.num_parameters() < 3e6
    assert model.config.id2label == {0: "generated", 1: "real"}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input_values": torch.zeros(1, 7999)}, ValueError, "row 0 lasts 0.500 s; the detector needs 0.5 s"),
        ({"attention_mask": torch.ones(1, 8000).index_fill(1, torch.arange(4000, 8000), 0)}, ValueError, "0.250 s"),
        ({"input_values": torch.full((1, 8000), float("nan"))}, ValueError, "NaN"),
        ({"input_values": torch.zeros(8000)}, ValueError, "give \\(batch, num_samples\\)"),
        ({"input_values": torch.zeros(1, 8000, dtype=torch.int16)}, TypeError, "give floats"),
        ({"input_values": np.zeros((1, 8000), np.float32)}, TypeError, "give a tensor"),
        ({"labels": torch.tensor([2])}, ValueError, "labels has values from 2 to 2; give 0 to 1"),
        ({"labels": torch.tensor([[1]])}, ValueError, "labels has shape \\(1, 1\\)"),
        ({"labels": torch.tensor([1.0])}, TypeError, "give integers"),
    ],
)
def test_bad_inputs_are_one_error(detector, changes, error, message):
    with pytest.raises(error, match=message):
        detector(**{"input_values": torch.zeros(1, 8000), **changes})


def test_silence_has_a_finite_score(detector):
    assert detector(torch.zeros(1, 8000)).logits.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_labels": 3}, "id2label is .*LABEL_2.*the detector has"),
        ({"id2label": {0: "real", 1: "generated"}}, "id2label is"),
        ({"initializer_range": -1}, "initializer_range"),
        ({"sampling_rate": 2000}, "sampling_rate"),
        ({"sampling_rat": 3}, "has no key 'sampling_rat'; did you mean"),
    ],
)
def test_bad_configurations_are_one_error(changes, message):
    with pytest.raises(Exception, match=message):
        AudioLMDetectorConfig(**changes)


def test_a_folder_loads_by_the_auto_classes_and_the_pipeline(detector, clips, tmp_path, caplog):
    export_checkpoint(detector, None, tmp_path)
    again = AutoModelForAudioClassification.from_pretrained(tmp_path)
    assert type(again) is AudioLMDetectorForAudioClassification
    assert torch.equal(again(*clips).logits, detector(*clips).logits)
    assert AutoFeatureExtractor.from_pretrained(tmp_path).sampling_rate == RATE
    classify = pipeline("audio-classification", model=str(tmp_path))
    results = classify({"array": clips[0][0].numpy(), "sampling_rate": RATE})
    assert "not supported" not in caplog.text
    score = float(detector(clips[0][:1]).logits.softmax(-1)[0, 1].detach())
    assert {each["label"]: pytest.approx(each["score"], abs=1e-4) for each in results} == {
        "real": score,
        "generated": 1 - score,
    }
