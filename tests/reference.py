# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Slow, obvious versions of every clever part, one loop at a time; the tests compare with them."""

import cmath
import itertools
import math

import librosa
import numpy as np
import torch
from scipy import signal

# --- residual vector quantizer -------------------------------------------------------------------------------------


def nearest_code(vector, codebook):
    """Index of the row of `codebook` nearest to `vector`, by looking at one after the other."""
    distances = [float(((vector - code) ** 2).sum()) for code in codebook]
    return distances.index(min(distances))


def residual_codes(vectors, codebooks):
    """Codes of every vector, level by level: each level quantizes what the one before left over."""
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


# Semantic tokenizer: k-means assignment and the edit distance, one entry at a time.


def nearest_centroid(vector, centroids):
    """Index of the centroid at the least squared distance, the first of equals."""
    best, best_distance = 0, float("inf")
    for index, centroid in enumerate(centroids.tolist()):
        distance = sum((a - b) ** 2 for a, b in zip(vector.tolist(), centroid, strict=True))
        if distance < best_distance:
            best, best_distance = index, distance
    return best


def warping_cost(costs):
    """Least summed cost of a path from the first to the last cell of a table by steps right, down or both."""
    rows, columns = len(costs), len(costs[0])
    best = {}
    for i in range(rows):
        for j in range(columns):
            before = [best[cell] for cell in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if cell in best]
            best[i, j] = costs[i][j] + (min(before) if before else 0.0)
    return best[rows - 1, columns - 1]


# --- token layout and stages ---------------------------------------------------------------------------------------


def flat_tokens(codes, codebook_size, first_level=0, offset=0):
    """Ids of `codes[batch][level][frame]`, frame after frame, level after level within a frame."""
    rows = []
    for row in codes:
        tokens = []
        for frame in range(len(row[0])):
            for level in range(len(row)):
                tokens.append(offset + (first_level + level) * codebook_size + int(row[level][frame]))
        rows.append(tokens)
    return rows


def allowed_ids(config, turn):
    """Ids that a stage may choose at the turn-th predicted token, counted from its separator (or from bos)."""
    if config.stage == "semantic":
        return [*range(config.num_semantic_tokens), config.eos_token_id]
    first, count = (0, config.num_coarse_codebooks)
    if config.stage == "fine":
        first, count = config.num_coarse_codebooks, config.num_fine_codebooks
    start = config.acoustic_offset + (first + turn % count) * config.codebook_size
    return list(range(start, start + config.codebook_size))


def greedy_tokens(model, context, num_tokens):
    """Most likely allowed ids after `context`, by one whole forward pass for each; stops at the end token."""
    ids = list(context)
    for turn in range(num_tokens):
        logits = model(torch.tensor([ids])).logits[0, -1].detach()
        allowed = allowed_ids(model.config, turn)
        ids.append(max(allowed, key=lambda token: float(logits[token])))
        if ids[-1] == model.config.eos_token_id:
            break
    return ids[len(context) :]


def mean_restricted_loss(model, input_ids, labels):
    """Mean negative log-likelihood of the labels, each among the allowed ids of its own turn, from full logits."""
    losses = []
    for row_ids, row_labels in zip(input_ids, labels, strict=True):
        logits = model(row_ids[None]).logits[0].detach()
        turn = 0
        for position in range(1, len(row_ids)):
            if int(row_labels[position]) == -100:
                continue
            allowed = allowed_ids(model.config, turn)
            probabilities = logits[position - 1][allowed].softmax(-1)
            losses.append(-float(probabilities[allowed.index(int(row_labels[position]))].log()))
            turn += 1
    return sum(losses) / len(losses)


def hidden_rows(rows, config, rng, level=None):
    """Ids and labels of one example of the parallel stage after masking, one code at a time, in SoundStorm's order."""
    num_levels = config.num_coarse_codebooks + config.num_fine_codebooks
    start = int(rng.integers(len(rows)))
    level = int(rng.integers(num_levels)) if level is None else level
    share = math.cos(rng.random() * math.pi / 2)
    chosen = [place for place, number in enumerate(rng.random(len(rows))) if number < share and place >= start]
    chosen = chosen or [int(rng.integers(start, len(rows)))]
    ids, labels = [list(row) for row in rows], [[-100] * len(row) for row in rows]
    for place, row in enumerate(rows):
        for other in range(num_levels):
            column = len(row) - num_levels + other
            if other == level and place in chosen:
                labels[place][column] = row[column]
            if (other == level and place in chosen) or (other > level and place >= start):
                ids[place][column] = config.begin_token_id - num_levels + other
    return ids, labels


@torch.no_grad()
def frame_logits(model, rows, num_known):
    """Logits of all frames of a row of the parallel stage, of which the known ones may attend to each other alone."""
    if not model.config.prefix_attention:
        return model(rows[None]).logits[0]
    mask = torch.zeros(1, 1, len(rows), len(rows))
    for query in range(num_known):
        for key in range(num_known, len(rows)):
            mask[0, 0, query, key] = -1e30
    return model.lm_head(model.model(inputs_embeds=model.embed(rows[None]), attention_mask=mask)[0][0])


def filled_rows(model, rows, num_known, numbers, passes, temperature, choice_temperature, do_sample=True):
    """Rows of the parallel stage with codes in place of masks: one frame at a time, one whole forward each pass.

    `numbers[pass][0 or 1][frame]` are uniform: the place of a code in its cumulative distribution, and Gumbel noise.
    """
    config, rows = model.config, [list(map(int, row)) for row in rows]
    new = list(range(num_known, len(rows)))
    numbers = iter(numbers)
    for level, num_passes in enumerate(passes):
        column = len(rows[0]) - len(passes) + level
        first = config.num_semantic_tokens + level * config.codebook_size
        masked = list(new)
        for done in range(num_passes):
            drawn = next(numbers) if num_passes > 1 else None
            kept = 0
            if done + 1 < num_passes:
                kept = max(0, min(len(masked) - 1, int(len(new) * math.cos(math.pi / 2 * (done + 1) / num_passes))))
            if not masked:
                continue
            logits = frame_logits(model, torch.tensor(rows), num_known).double()
            candidates = []
            for frame in masked:
                scores = logits[frame, first : first + config.codebook_size]
                code, confidence = int(scores.argmax()), 0.0
                if drawn is not None and do_sample:
                    sums = (scores / temperature).softmax(-1).cumsum(-1).tolist()
                    code = [total > float(drawn[0][frame - num_known]) for total in sums].index(True)
                if drawn is not None:
                    confidence = float(scores.log_softmax(-1)[code])
                if drawn is not None and do_sample:
                    gumbel = -math.log(-math.log(float(drawn[1][frame - num_known])))
                    confidence += choice_temperature * (1 - (done + 1) / num_passes) * gumbel
                candidates.append((-confidence, frame, code))
            for _, frame, code in sorted(candidates)[: len(masked) - kept]:
                rows[frame][column] = first + code
                masked.remove(frame)
    return rows


def guided_log_probabilities(model, ids, position, level, guidance_scale, prompt_scale, num_tokens, num_frames):
    """Log-probabilities of the codes of a level at one position of a sequence, guided by what is taken away from it.

    What is taken away are the semantic tokens, and the prompt: the first tokens and frames, of which nothing is left;
    of the parallel stage the frames before the first mask.
    """
    config, parallel = model.config, model.config.layout.parallel

    def log_probabilities(kept, changed):
        kept_ids, kept_place = changed[kept][None], kept.nonzero()[:, 0].tolist().index(position)
        with torch.no_grad():
            state = model.encode(kept_ids, torch.ones(kept_ids.shape[:2]).long())[0, kept_place]
            return model.level_logits(state, level).log_softmax(-1)

    everything = torch.ones(len(ids), dtype=torch.bool)
    whole = log_probabilities(everything, ids)
    guided = whole.clone()
    if parallel:
        masks = [bool((row[config.tokens_per_frame :] == torch.tensor(config.mask_token_ids)).any()) for row in ids]
        semantic, prompt = torch.zeros(len(ids), dtype=torch.bool), torch.arange(len(ids)) < masks.index(True)
        silent = ids.clone()
        silent[:, : config.tokens_per_frame] = config.absent_token_id
    else:
        separator = ids.tolist().index(config.separator_token_id)
        places = torch.arange(len(ids))
        semantic, silent = (places > 0) & (places < separator), ids
        prompt = semantic & (places <= num_tokens)
        prompt |= (places > separator) & (places <= separator + num_frames * len(config.predicted_levels))
    guided += (guidance_scale - 1) * (whole - log_probabilities(~semantic, silent))
    if not prompt[position]:
        guided += (prompt_scale - 1) * (whole - log_probabilities(~prompt, ids))
    return guided


def greedy_continuation(model, prompt_tokens, prompt_codes, num_tokens):
    """Codes `[level][frame]` of prompt and continuation, stage by stage, where everything fits into one window.

    Two frames for each semantic token; the first fine chunk covers the prompt from a third of a window before its end.
    """
    semantic, coarse, fine = model.semantic.config, model.coarse.config, model.fine.config
    new_tokens = greedy_tokens(model.semantic, [semantic.bos_token_id, *prompt_tokens], num_tokens)
    tokens = [*prompt_tokens, *(token for token in new_tokens if token != semantic.eos_token_id)]
    codes = [list(map(int, level)) for level in prompt_codes]
    known, total = len(codes[0]), 2 * len(tokens)
    levels = coarse.num_coarse_codebooks
    context = [coarse.bos_token_id, *tokens, coarse.separator_token_id]
    context += flat_tokens([codes[:levels]], coarse.codebook_size, offset=coarse.acoustic_offset)[0]
    new = greedy_tokens(model.coarse, context, (total - known) * levels)
    for place, token in enumerate(new):
        codes[place % levels].append((token - coarse.acoustic_offset) % coarse.codebook_size)
    start = known - min(known, int(fine.window_length_s * 50) // 3)
    chunk = [level[start:] for level in codes]
    context = [fine.bos_token_id, *flat_tokens([chunk[:levels]], fine.codebook_size)[0], fine.separator_token_id]
    context += flat_tokens([[level[: known - start] for level in chunk[levels:]]], fine.codebook_size, levels)[0]
    new = greedy_tokens(model.fine, context, (total - known) * fine.num_fine_codebooks)
    for place, token in enumerate(new):
        codes[levels + place % fine.num_fine_codebooks].append(token % fine.codebook_size)
    return codes


def most_similar(prompt, candidates, embeddings, onset_rate=None, rates=None, length=None):
    """The number of the token list whose mean embedding points most in the direction of the prompt's.

    Every dimension of `embeddings (num_tokens, size)` is first scaled to mean 0 and standard deviation 1. With the
    prompt's `onset_rate`, twice the distance to the candidate's mean of `rates`, in logarithms, is subtracted. All
    places from the second to `length` count, those after its end with the mean of the places that all candidates have.
    """
    columns = [[float(value) for value in column] for column in embeddings.T]
    columns = [[(value - np.mean(column)) / np.std(column, ddof=1) for value in column] for column in columns]

    def mean(tokens):
        return [sum(column[token] for token in tokens) / len(tokens) for column in columns]

    def cosine(first, second):
        lengths = [math.sqrt(sum(value * value for value in each)) for each in (first, second)]
        return sum(a * b for a, b in zip(first, second, strict=True)) / math.prod(lengths)

    def rhythm(tokens):
        if onset_rate is None:
            return 0.0
        own = [expected_onset_rate(tokens, rates)] * max(0, len(tokens) - 1)
        expected = np.mean(own + [everywhere] * (length - 1 - len(own)))
        return 2 * abs(math.log((expected + 0.3) / (onset_rate + 0.3)))

    if onset_rate is not None:
        found = [expected_onset_rate(each, rates) for each in candidates for _ in each[1:]]
        everywhere = np.mean(found) if found else 0.0
    scores = [cosine(mean(prompt), mean(each)) - rhythm(each) if len(each) else -math.inf for each in candidates]
    return scores.index(max(scores))


def expected_onset_rate(tokens, rates):
    """The mean rate of a token list: the first half of `rates` is of tokens that repeat the one before them."""
    found = []
    for before, token in itertools.pairwise(tokens):
        found.append(rates[token] if token == before else rates[token + len(rates) // 2])
    return max(0.0, sum(found) / len(found)) if found else 0.0


def onset_times(array, sampling_rate):
    """Times in seconds at which the mean mel band rises most within 50 ms, and 1.5 dB more than within 150 ms."""
    padded = np.pad(array, (0, max(0, 1024 - len(array))))
    bands = {"n_fft": 1024, "hop_length": 256, "n_mels": 80, "norm": None, "center": False}
    mel = librosa.feature.melspectrogram(y=padded, sr=sampling_rate, **bands).astype(np.float64)
    decibels = 10 * np.log10(np.maximum(mel / max(mel.max(), 1e-10), 1e-6)).T
    rise = [np.mean(np.maximum(decibels[i + 2] - decibels[i], 0)) for i in range(len(decibels) - 2)]
    gap, around = (round(seconds * sampling_rate / 256) for seconds in (0.05, 0.15))

    def is_onset(i):
        near = [rise[j] for j in range(max(0, i - gap), min(len(rise), i + gap + 1))]
        surroundings = [rise[min(max(j, 0), len(rise) - 1)] for j in range(i - around, i + around + 1)]
        return rise[i] == max(near) and rise[i] > np.mean(surroundings) + 1.5

    return [(i + 1) * 256 / sampling_rate + 512 / sampling_rate for i in range(len(rise)) if is_onset(i)]


def anchored_windows(known, total, window, anchor, context_share=0.5, first_window=None):
    """Frames that each window of a stage of codes begins with, and those that it adds; two frames for a token.

    The first window adds at most `first_window` frames, and the second is filled up before a third begins.
    """
    windows, start = [], 0
    first_stop = total if first_window is None else min(total, known + first_window)
    if first_stop > window:
        start = max(0, known - window // 2) // 2 * 2
    kept, first = [], start
    while known < total:
        if known >= start + window - len(kept):
            kept = list(range(first, first + anchor))
            start = (known - int((window - anchor) * context_share)) // 2 * 2
        stop = min(total if windows else first_stop, start + window - len(kept))
        windows.append((kept + list(range(start, known)), list(range(known, stop))))
        known = stop
    return windows


def slow_stage_losses(model, tokens, codes):
    """Mean loss of each stage on one recording that fits into a window; `codes[level][frame]`."""
    semantic, coarse, fine = model.semantic.config, model.coarse.config, model.fine.config
    levels, size = coarse.num_coarse_codebooks, coarse.codebook_size
    coarse_codes = flat_tokens([codes[:levels]], size, offset=coarse.acoustic_offset)[0]
    conditions = {
        "semantic": [semantic.begin_token_id],
        "coarse": [coarse.begin_token_id, *tokens, coarse.separator_token_id],
        "fine": [fine.begin_token_id, *flat_tokens([codes[:levels]], size)[0], fine.separator_token_id],
    }
    predicted = {
        "semantic": [*tokens, semantic.end_token_id],
        "coarse": coarse_codes,
        "fine": flat_tokens([codes[levels:]], size, levels)[0],
    }
    return {
        stage: mean_restricted_loss(
            model.stages[stage],
            torch.tensor([conditions[stage] + predicted[stage]]),
            torch.tensor([[-100] * len(conditions[stage]) + predicted[stage]]),
        )
        for stage in conditions
    }


def places_beside_the_prediction(ids, config):
    """Position of every id of one unpadded sequence, condition token j where predicted token `j * stride` stands."""
    places = list(range(len(ids)))
    if config.separator_token_id in ids:
        separator = ids.index(config.separator_token_id)
        for place in range(1, separator):  # after the beginning token
            places[place] = separator + 1 + math.floor((place - 1) * config.condition_stride)
    return places


# --- n-grams ---------------------------------------------------------------------------------------------------------


def kneser_ney_probability(grams, context, target, num_outcomes, least_discount=0.05):
    """Interpolated modified Kneser-Ney probability of `target` after the tuple `context`.

    `grams` is a list of (context tuple, target) pairs of the training data, all contexts of one length. Every count is
    made anew by going through the whole list.
    """
    longest = len(grams[0][0])

    def counts_of_order(length):
        if length == longest:
            counts = {}
            for gram in grams:
                counts[gram] = counts.get(gram, 0) + 1
            return counts
        longer = counts_of_order(length + 1)
        counts = {}
        for longer_context, outcome in longer:
            gram = (longer_context[1:], outcome)
            counts[gram] = counts.get(gram, 0) + 1
        return counts

    def discount(count, counts):
        times = [max(1, sum(1 for value in counts.values() if value == number)) for number in (1, 2, 3, 4)]
        share = times[0] / (times[0] + 2 * times[1])
        number = min(count, 3)
        return min(number, max(least_discount, number - (number + 1) * share * times[number] / times[number - 1]))

    def probability(length):
        if length < 0:
            return 1 / num_outcomes
        suffix = context[len(context) - length :]
        counts = counts_of_order(length)
        total = sum(count for (seen, _), count in counts.items() if seen == suffix)
        if not total:
            return probability(length - 1)
        left_over = sum(discount(count, counts) for (seen, _), count in counts.items() if seen == suffix) / total
        count = counts.get((suffix, target), 0)
        own = (count - discount(count, counts)) / total if count else 0.0
        return own + left_over * probability(length - 1)

    return probability(longest)


# -- evaluation of tokens --------------------------------------------------------------------------------------------


def mutual_information(tokens, labels):
    """Bits that tokens say of labels, from the definition, one pair of values after the other."""
    total = 0.0
    for token in set(tokens):
        for label in set(labels):
            joint = sum(t == token and lab == label for t, lab in zip(tokens, labels, strict=True)) / len(tokens)
            if joint:
                apart = tokens.count(token) / len(tokens) * labels.count(label) / len(labels)
                total += joint * math.log2(joint / apart)
    return total


def abx_error(items, distance, across):
    """ABX error over all triples; items are (phone, context, speaker), distance(i, j) is of their places."""
    pairs = {}
    for a, (phone, context, speaker) in enumerate(items):
        for b, (other_phone, other_context, other_speaker) in enumerate(items):
            if other_phone == phone or other_context != context or other_speaker != speaker:
                continue
            for x, (x_phone, x_context, x_speaker) in enumerate(items):
                if x == a or x_phone != phone or x_context != context or (x_speaker != speaker) != across:
                    continue
                near, far = distance(a, x), distance(b, x)
                wrong = 1.0 if near > far else 0.5 if near == far else 0.0
                cells = pairs.setdefault((phone, other_phone), {})
                cells.setdefault((context, speaker, x_speaker), []).append(wrong)
    means = [sum(sum(c) / len(c) for c in cells.values()) / len(cells) for cells in pairs.values()]
    return sum(means) / len(means) if means else float("nan")


# --- losses that follow a listener ---------------------------------------------------------------------------------


def band_powers(power, sampling_rate, window_length, num_bands):
    """Power of every Bark band of one frame, bin by bin: each gives the share of its width that lies in the band."""

    def bark(hz):
        return 26.81 * hz / (1960 + hz) - 0.53

    width, nyquist = sampling_rate / window_length, sampling_rate / 2
    first, last = bark(0.0), bark(nyquist)
    totals = []
    for band in range(num_bands):
        low = first + (last - first) * band / num_bands
        high = first + (last - first) * (band + 1) / num_bands
        total = 0.0
        for index, value in enumerate(power):
            start, end = bark(max(0.0, (index - 0.5) * width)), bark(min(nyquist, (index + 0.5) * width))
            total += value * max(0.0, min(end, high) - max(start, low)) / (end - start)
        totals.append(total)
    return totals


def loudness_of_power(power, threshold):
    """Loudness in sone of one band of one frame (Zwicker, as in P.862): nothing below the threshold."""
    if power <= threshold:
        return 0.0
    return 0.187 * (threshold / 0.5) ** 0.23 * ((0.5 + 0.5 * power / threshold) ** 0.23 - 1)


def event_norm(disturbances):
    """Root mean square over events of 20 frames, half overlapping, of the 6-norm of each; a frame counts up to 45."""
    squares = []
    for start in range(0, len(disturbances) - 19, 10):
        event = [min(value, 45.0) for value in disturbances[start : start + 20]]
        squares.append((sum(value**6 for value in event) / 20) ** (2 / 6))
    return (sum(squares) / len(squares)) ** 0.5


def envelope_correlation(estimate, target):
    """Mean correlation of envelopes `[segment][band][frame]`, one segment and band at a time (STOI's middle part)."""
    energies = [float((segment**2).sum()) for segment in target]
    correlations = []
    for segment in range(len(target)):
        if energies[segment] <= 1e-4 * max(energies):
            continue
        for band in range(len(target[segment])):
            wanted, heard = target[segment][band].tolist(), estimate[segment][band].tolist()
            gain = (sum(value**2 for value in wanted) / sum(value**2 for value in heard)) ** 0.5
            heard = [min(gain * x, (1 + 10 ** (15 / 20)) * y) for x, y in zip(heard, wanted, strict=True)]
            wanted = [value - sum(wanted) / len(wanted) for value in wanted]
            heard = [value - sum(heard) / len(heard) for value in heard]
            size = (sum(value**2 for value in wanted) * sum(value**2 for value in heard)) ** 0.5
            correlations.append(sum(x * y for x, y in zip(heard, wanted, strict=True)) / size)
    return sum(correlations) / len(correlations)


# --- low band of the codec -------------------------------------------------------------------------------------------


def low_band_coefficient(samples, hop_length, frame, index):
    """One coefficient of the modified discrete cosine transform, sample by sample."""
    total = 0.0
    for offset in range(2 * hop_length):
        place = frame * hop_length - hop_length // 2 + offset
        sample = samples[place] if 0 <= place < len(samples) else 0.0
        window = math.sin(math.pi * (offset + 0.5) / (2 * hop_length))
        cosine = math.cos(math.pi / hop_length * (offset + 0.5 + hop_length / 2) * (index + 0.5))
        total += sample * window * cosine * math.sqrt(2 / hop_length)
    return total


# --- phases and harmony ----------------------------------------------------------------------------------------------


def aligned_phases(spectrum, window_length, hop_length, iterations, momentum):
    """Fast Griffin-Lim, window by window; `spectrum` is (frames, bins), complex; returns the waveform."""
    frames, excess = len(spectrum), (window_length - hop_length) // 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)

    def inverse(values):
        total = np.zeros(frames * hop_length + 2 * excess)
        weight = np.zeros_like(total)
        for frame in range(frames):
            place = slice(frame * hop_length, frame * hop_length + window_length)
            total[place] += np.fft.irfft(values[frame], window_length) * window
            weight[place] += window**2
        return (total / np.maximum(weight, 1e-3))[excess:-excess]

    magnitude, before = np.abs(spectrum), np.zeros_like(spectrum)
    for _ in range(iterations):
        padded = np.pad(inverse(spectrum), excess)
        found = np.stack([np.fft.rfft(padded[i * hop_length :][:window_length] * window) for i in range(frames)])
        guess = found + momentum * (found - before)
        spectrum, before = magnitude * np.exp(1j * np.angle(guess)), found
    return inverse(spectrum)


def pitch_classes(array, sampling_rate, frame):
    """Weights of the twelve pitch classes in one frame of 20 ms, one frequency at a time."""
    hop, window = sampling_rate // 50, round(0.128 * sampling_rate)
    start = frame * hop - (window - hop) // 2
    samples = [array[i] if 0 <= i < len(array) else 0.0 for i in range(start, start + window)]
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    amplitudes = np.abs(np.fft.rfft(np.array(samples) * shape))
    classes = np.zeros(12)
    for index, amplitude in enumerate(amplitudes):
        hertz = index * sampling_rate / window
        if 63.5 <= hertz <= 2093:
            semitones = 12 * math.log2(hertz / 440) + 69
            nearest = round(semitones)
            classes[nearest % 12] += amplitude * math.exp(-0.5 * ((semitones - nearest) / 0.2) ** 2)
    classes = np.sqrt(classes)
    return classes / (np.linalg.norm(classes) + 1e-3)


def nearest_of_others(features, speakers):
    """Mean, for each frame, over all other speakers, of that speaker's nearest frame."""
    rows = []
    for frame, speaker in zip(features, speakers, strict=True):
        found = []
        for other in sorted(set(speakers) - {speaker}):
            own = [row for row, name in zip(features, speakers, strict=True) if name == other]
            found.append(min(own, key=lambda row: float(((row - frame) ** 2).sum())))
        rows.append(sum(found) / len(found))
    return np.stack(rows)


def smoothed(values, width):
    """Gaussian average of a row over its neighbours, within 2.5 standard deviations; the edges go on for ever."""
    reach = round(2.5 * width)
    weights = [np.exp(-0.5 * (offset / width) ** 2) for offset in range(-reach, reach + 1)]
    result = []
    for place in range(len(values)):
        near = [values[min(max(place + offset, 0), len(values) - 1)] for offset in range(-reach, reach + 1)]
        result.append(sum(w * v for w, v in zip(weights, near, strict=True)) / sum(weights))
    return np.array(result)


# --- harmonic decoder ------------------------------------------------------------------------------------------------


def f0_of_sample(f0, hop_length, sample):
    """Pitch in Hz at the middle of one sample, on the line between the centres of the voiced frames around it."""
    place = (sample + 0.5) / hop_length - 0.5
    left = math.floor(place)
    pairs = [
        (min(max(frame, 0), len(f0) - 1), weight)
        for frame, weight in ((left, left + 1 - place), (left + 1, place - left))
    ]
    voiced = sum(weight for frame, weight in pairs if f0[frame] > 0)
    return sum(weight * f0[frame] for frame, weight in pairs) / voiced if voiced > 0.01 else 100.0


def harmonic_sum(f0, hop_length, sampling_rate):
    """Cosines at all multiples of the pitch up to 95 % of half the sampling rate, one harmonic after the other."""
    samples, cycles = [], 0.0
    for sample in range(len(f0) * hop_length):
        hertz = f0_of_sample(f0, hop_length, sample)
        cycles += hertz / sampling_rate
        total = 0.0
        for harmonic in range(1, int(0.95 * 0.5 * sampling_rate / hertz) + 1):
            total += 2 * math.cos(2 * math.pi * harmonic * cycles)
        samples.append(0.7 * math.sqrt(hertz / sampling_rate) * total)
    return np.array(samples)


def band_value(values, centres, hertz):
    """Value at a frequency, on the line between the two nearest centres, constant outside them."""
    if hertz <= centres[0]:
        return values[0]
    for index in range(1, len(centres)):
        if hertz <= centres[index]:
            share = (hertz - centres[index - 1]) / (centres[index] - centres[index - 1])
            return values[index - 1] * (1 - share) + values[index] * share
    return values[-1]


def filtered_source(f0, log_magnitude, noise_logits, phase, noise, sizes):
    """Harmonics and noise through a filter, frame by frame and bin by bin; sizes = (window, hop, sampling rate)."""
    window_length, hop_length, rate = sizes
    frames, excess = len(f0), (window_length - hop_length) // 2
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window_length) / window_length)

    def mel_hertz(mel):
        return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)

    top = 15 + math.log(rate / 2000) * 27 / math.log(6.4)
    noise_centres = [mel_hertz(top * (band + 1) / (len(noise_logits[0]) + 1)) for band in range(len(noise_logits[0]))]
    phase_centres = [rate / 2 * point / (len(phase[0]) - 1) for point in range(len(phase[0]))]
    pulses = np.pad(harmonic_sum(f0, hop_length, rate), excess)
    noise = np.pad(noise, excess)
    total = np.zeros(frames * hop_length + 2 * excess)
    weight = np.zeros_like(total)
    for frame in range(frames):
        place = slice(frame * hop_length, frame * hop_length + window_length)
        harmonic, breath = np.fft.rfft(pulses[place] * window), np.fft.rfft(noise[place] * window)
        spectrum = np.zeros(window_length // 2 + 1, dtype=complex)
        for index in range(len(spectrum)):
            hertz = index * rate / window_length
            periodic = 1 / (1 + math.exp(band_value(noise_logits[frame], noise_centres, hertz))) if f0[frame] else 0.0
            turn = cmath.exp(1j * band_value(phase[frame], phase_centres, hertz)) if f0[frame] else 0.0
            mixed = (
                math.sqrt(periodic + 1e-5) * harmonic[index] * turn + math.sqrt(1 - periodic + 1e-5) * breath[index]
            )
            spectrum[index] = math.exp(log_magnitude[frame][index]) / math.sqrt((window**2).sum()) * mixed
        total[place] += np.fft.irfft(spectrum, window_length) * window
        weight[place] += window**2
    return (total / np.maximum(weight, 1e-3))[excess:-excess]


# --- detector --------------------------------------------------------------------------------------------------------


def spectral_changes(spectrum, loud):
    """Features of a log spectrum `(length, bins)`, each with the list of the windows in which it is defined."""
    peak = spectrum[loud].max()
    spectrum = np.maximum(spectrum, peak - 18)
    length, bins = spectrum.shape
    mean = spectrum[loud].mean(0)
    kinds = [("time", (1, -1), lag) for lag in (1, 2, 4, 8)] + [("time", (1, -2, 1), 1)]
    kinds += [("bins", (1, -1), lag) for lag in (1, 2, 3, 4)] + [("bins", (1, -2, 1), 1)]
    found = []
    for axis, factors, lag in kinds:
        values, defined = np.zeros_like(spectrum), []
        for place in range(length):
            used = [place - lag * number * (axis == "time") for number in range(len(factors))]
            defined.append(all(each >= 0 and bool(loud[each]) for each in used))
            for column in range(bins):
                columns = [column - lag * number * (axis == "bins") for number in range(len(factors))]
                if defined[-1] and columns[-1] >= 0:
                    parts = [f * spectrum[u, c] for f, u, c in zip(factors, used, columns, strict=True)]
                    values[place, column] = abs(sum(parts))
        found.append((values, defined))
    return [*found, (np.abs(spectrum - mean), loud.tolist())]


def window_scores(frame_logits, window):
    """Probability of the second label in every window of frames, of which the last may be shorter."""
    scores = []
    for start in range(0, len(frame_logits), window):
        sums, count = [0.0, 0.0], 0
        for frame in frame_logits[start : start + window]:
            sums = [total + float(value) for total, value in zip(sums, frame, strict=True)]
            count += 1
        first, second = (math.exp(total / count) for total in sums)
        scores.append(second / (first + second))
    return scores


def pause_power(audio, length, hop, count, quantile, of_noise, num_bins):
    """Power of the softest parts of a recording by frequency, window by window and bin by bin."""
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    starts = range(0, len(audio) - length + 1, hop)
    powers = [np.abs(np.fft.rfft(audio[start : start + length] * shape)) ** 2 / np.sum(shape**2) for start in starts]
    means = [np.mean(powers[first : first + count], axis=0) for first in range(len(powers) - count + 1)]
    levels = np.array([np.quantile([mean[at] for mean in means], quantile) / of_noise for at in range(len(powers[0]))])
    reach = num_bins // 2
    return np.array([levels[max(0, at - reach) : at + reach + 1].mean() for at in range(len(levels))])


def filtered(white, impulse_response):
    """Each sample as the sum of those under the impulse response, without those at the ends."""
    count = len(impulse_response)
    return np.array([np.dot(white[at : at + count], impulse_response) for at in range(len(white) - count + 1)])


def block_level(audio, length, boundary):
    """Level in dB between two blocks of a recording, of which the second one begins at `boundary * length`."""
    samples = audio[(boundary - 1) * length : (boundary + 1) * length]
    return 10 * math.log10(sum(sample**2 for sample in samples) / len(samples) + 1e-20)


def dynamics_gains(prompt, decoded, length, share_of_levels, most):
    """Levels of a resynthesis, each the mean of neighbouring ones, and the gains in dB that the prompt has there."""
    boundaries = range(1, len(prompt) // length)
    pairs = sorted((block_level(decoded, length, at), block_level(prompt, length, at)) for at in boundaries)
    count = max(1, round(share_of_levels * len(pairs)))
    groups = [pairs[first : first + count] for first in range(len(pairs) - count + 1)]
    found = [sum(level for level, _ in group) / count for group in groups]
    wanted = [sum(level for _, level in group) / count for group in groups]
    return found, [min(max(max(wanted[: at + 1]) - found[at], 0), most) for at in range(len(found))]


def amplified(audio, length, levels, gains):
    """Each sample of a continuation amplified by a gain between those of the boundaries around it."""
    last = len(audio) // length - 1  # the last boundary whose two blocks are known
    at_boundaries = [0.0]
    at_boundaries += [float(np.interp(block_level(audio, length, at), levels, gains)) for at in range(1, last + 1)]
    samples = []
    for index, sample in enumerate(audio):
        at, part = divmod(index, length)
        gain = at_boundaries[min(at, len(at_boundaries) - 1)]
        if at + 1 < len(at_boundaries):
            gain += (at_boundaries[at + 1] - gain) * part / length
        samples.append(sample * 10 ** (gain / 20))
    return np.array(samples)


def _equalizer_edges(sampling_rate):
    octaves = math.log2(sampling_rate / 2 / 100) / 18
    return [0.0] + [100 * 2 ** (octaves * number) for number in range(19)]


def band_levels(array, sampling_rate):
    """Levels of 19 bands in dB relative to all frequencies, by scipy's spectrum of 64 ms windows."""
    length = round(0.064 * sampling_rate)
    window = signal.get_window("hann", length, fftbins=True)
    hertz, density = signal.welch(
        array.astype(np.float64), sampling_rate, window, noverlap=length - length // 2, detrend="constant"
    )
    density[1 : len(density) - (length % 2 == 0)] /= 2  # back to two sides
    edges, levels = _equalizer_edges(sampling_rate), []
    for low, high in itertools.pairwise(edges):
        inside = [power for each, power in zip(hertz, density, strict=True) if low <= each < high + hertz[1]]
        levels.append(10 * math.log10(sum(inside) / len(inside) / density.mean()))
    return levels


def equalizer_gain(hertz, gains_db, sampling_rate):
    """Gain in dB at a frequency: that of the band with this centre, between two bands in proportion."""
    edges = _equalizer_edges(sampling_rate)
    centres = [math.sqrt(max(low, 50) * high) for low, high in itertools.pairwise(edges)]
    for place in range(len(centres) - 1):
        if centres[place] <= hertz <= centres[place + 1]:
            share = (hertz - centres[place]) / (centres[place + 1] - centres[place])
            return (1 - share) * gains_db[place] + share * gains_db[place + 1]
    return gains_db[0] if hertz < centres[0] else gains_db[-1]
