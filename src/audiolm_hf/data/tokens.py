# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Token datasets: recordings turned once into semantic tokens and codes, and read back for training and evaluation.

A token dataset is a folder of parquet shards and `tokens.json`, which names the tokenizers by a hash of their
configurations and weights. The three stages learn from it without touching audio again.

Paper: AudioLM (arXiv 2209.03143), the two tokenizers.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging

from audiolm_hf.acoustic_codec_audiolm import AcousticCodec
from audiolm_hf.data.audio import AudioRecord, AudioSource
from audiolm_hf.modeling_semantic_tokenizer_audiolm import AudioLMSemanticTokenizer

logger = logging.get_logger(__name__)

INFO_FILE = "tokens.json"
SEGMENT_LENGTH_S = 30.0  # longer recordings are cut, so that an encoder's attention stays small
LAST_SEGMENT_S = 1.0  # a shorter end joins the segment before it
_VOLATILE_KEYS = ("_name_or_path", "architectures", "dtype", "transformers_version", "auto_map")
_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("speaker", pa.string()),
        ("accent", pa.string()),
        ("source", pa.string()),
        ("start", pa.float64()),
        ("duration", pa.float64()),
        ("ends_recording", pa.bool_()),
        ("semantic_tokens", pa.list_(pa.int16())),
        ("audio_codes", pa.list_(pa.list_(pa.int16()))),
    ]
)


@dataclass(frozen=True)
class TokenInfo:
    """What the tokens of a dataset mean.

    Args:
        tokenizers (`str`): hash of both tokenizers, see [`tokenizers_hash`].
        sampling_rate (`int`): Hz.
        semantic_hop_length (`int`): samples per semantic token.
        num_semantic_tokens (`int`): size of the semantic vocabulary.
        hop_length (`int`): samples per frame of codes.
        num_codebooks (`int`): levels of codes.
        codebook_size (`int`): entries per codebook.
    """

    tokenizers: str
    sampling_rate: int
    semantic_hop_length: int
    num_semantic_tokens: int
    hop_length: int
    num_codebooks: int
    codebook_size: int


@dataclass(frozen=True)
class TokenRecord:
    """The tokens of one recording, or of one segment of a long one.

    Args:
        id (`str`): of the recording.
        speaker (`str`): its label.
        accent (`str`): its label.
        source (`str`): its label.
        start (`float`): seconds into the recording at which the segment begins.
        duration (`float`): seconds of the segment.
        ends_recording (`bool`): the segment is the last of its recording.
        semantic_tokens (`np.ndarray` of shape `(semantic_length,)`): int16.
        audio_codes (`np.ndarray` of shape `(num_codebooks, frames)`): int16.
    """

    id: str
    speaker: str
    accent: str
    source: str
    start: float
    duration: float
    ends_recording: bool
    semantic_tokens: np.ndarray
    audio_codes: np.ndarray


def tokenizers_hash(semantic_tokenizer: PreTrainedModel, codec: PreTrainedModel) -> str:
    """Hash the configurations and weights of both tokenizers.

    Args:
        semantic_tokenizer ([`AudioLMSemanticTokenizer`]): the first.
        codec ([`~transformers.PreTrainedModel`]): the second, as it is inside its [`AcousticCodec`].

    Returns:
        `str`: 16 hexadecimal digits; equal for equal values, wherever the weights were loaded from.
    """
    digest = hashlib.sha256()
    for model in (semantic_tokenizer, codec):
        digest.update(json.dumps(_stable(model.config.to_dict()), sort_keys=True, default=str).encode())
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _stable(values: object) -> object:
    """Drop the keys of a configuration that say where and with what it was saved."""
    if isinstance(values, dict):
        return {str(key): _stable(value) for key, value in values.items() if key not in _VOLATILE_KEYS}
    return values


def token_info(semantic_tokenizer: AudioLMSemanticTokenizer, codec: AcousticCodec) -> TokenInfo:
    """Describe the tokens that two tokenizers make.

    Raises:
        ValueError: the two work at different sampling rates, or have vocabularies too large for 16 bits.
    """
    config = semantic_tokenizer.config
    if config.sampling_rate != codec.sampling_rate:
        raise ValueError(
            f"The semantic tokenizer works at {config.sampling_rate} Hz and the codec at {codec.sampling_rate} Hz; "
            "use two of one rate."
        )
    if max(config.num_semantic_tokens, codec.codebook_size) > 2**15:
        raise ValueError(
            f"num_semantic_tokens is {config.num_semantic_tokens} and codebook_size {codec.codebook_size}; tokens are "
            f"stored in 16 bits, so at most {2**15} of each."
        )
    return TokenInfo(
        tokenizers=tokenizers_hash(semantic_tokenizer, codec.model),
        sampling_rate=codec.sampling_rate,
        semantic_hop_length=config.hop_length,
        num_semantic_tokens=config.num_semantic_tokens,
        hop_length=codec.hop_length,
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
    )


def tokenize_recordings(
    source: AudioSource,
    semantic_tokenizer: AudioLMSemanticTokenizer,
    codec: AcousticCodec,
    output: str | Path,
    rows_per_shard: int = 64,
) -> "TokenDataset":
    """Turn recordings into a token dataset.

    Each shard is written whole or not at all, and shards that are there are not made again: after an interruption,
    the same call goes on where it stopped.

    Args:
        source ([`AudioSource`]): the recordings, at the tokenizers' sampling rate.
        semantic_tokenizer ([`AudioLMSemanticTokenizer`]): audio to semantic tokens.
        codec ([`AcousticCodec`]): audio to codes.
        output (`str` or `Path`): folder of the dataset.
        rows_per_shard (`int`, defaults to 64): recordings per shard.

    Returns:
        [`TokenDataset`]: the finished dataset.

    Raises:
        ValueError: the folder holds tokens of other tokenizers, recordings or shard sizes.
    """
    output = Path(output)
    info = token_info(semantic_tokenizer, codec)
    recordings = hashlib.sha256("\n".join(source.ids).encode()).hexdigest()[:16]
    _claim_folder(output, dataclasses.asdict(info) | {"recordings": recordings, "rows_per_shard": rows_per_shard})
    with tqdm(total=len(source), desc="tokenize", unit="recording", smoothing=0.05) as progress:
        for start in range(0, len(source), rows_per_shard):
            rows = range(start, min(start + rows_per_shard, len(source)))
            path = output / f"tokens-{start // rows_per_shard:05d}.parquet"
            if not path.exists():
                write_shard(path, _tokenize_rows(source, rows, semantic_tokenizer, codec, progress))
            else:
                progress.update(len(rows))
    return TokenDataset(output)


def _claim_folder(output: Path, claim: dict[str, object]) -> None:
    """Write what a folder is to hold, or check that it says the same already."""
    output.mkdir(parents=True, exist_ok=True)
    path = output / INFO_FILE
    if not path.exists():
        _write_atomically(path, (json.dumps(claim, indent=2) + "\n").encode())
    found = json.loads(path.read_text(encoding="utf-8"))
    different = sorted(key for key in claim if found.get(key) != claim[key])
    if different:
        raise ValueError(
            f"{output} holds tokens with other {', '.join(different)} than asked for now; give another folder, or "
            "remove this one."
        )


def _write_atomically(path: Path, data: bytes) -> None:
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def write_shard(path: Path, records: Sequence[TokenRecord]) -> None:
    """Write records to one parquet file, whole or not at all.

    Args:
        path (`Path`): `tokens-<number>.parquet` in a dataset's folder.
        records (sequence of [`TokenRecord`]): what goes in.
    """
    columns = {name: [_plain(record, name) for record in records] for name in _SCHEMA.names}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=_SCHEMA), sink, compression="zstd")
    _write_atomically(path, sink.getvalue().to_pybytes())


def _plain(record: TokenRecord, name: str) -> object:
    value = vars(record)[name]
    return list(value) if isinstance(value, np.ndarray) else value


def _tokenize_rows(
    source: AudioSource,
    rows: range,
    semantic_tokenizer: AudioLMSemanticTokenizer,
    codec: AcousticCodec,
    progress: tqdm,
) -> list[TokenRecord]:
    records: list[TokenRecord] = []
    for row in rows:
        try:
            recording = source[row]
        except ValueError as error:
            logger.warning(f"Left out {error}")
        else:
            records += _tokenize_recording(recording, semantic_tokenizer, codec)
        progress.update()
    return records


@torch.inference_mode()
def _tokenize_recording(
    recording: AudioRecord, semantic_tokenizer: AudioLMSemanticTokenizer, codec: AcousticCodec
) -> Iterator[TokenRecord]:
    """Tokens of each segment; every segment but the last is a whole number of both hops."""
    grid = math.lcm(semantic_tokenizer.config.hop_length, codec.hop_length)
    segment = max(1, round(SEGMENT_LENGTH_S * recording.sampling_rate / grid)) * grid
    starts = list(range(0, len(recording.array), segment))
    if len(starts) > 1 and len(recording.array) - starts[-1] < LAST_SEGMENT_S * recording.sampling_rate:
        starts.pop()
    for start, end in zip(starts, [*starts[1:], len(recording.array)], strict=True):
        input_values = torch.from_numpy(recording.array[start:end])[None]
        attention_mask = torch.ones_like(input_values, dtype=torch.long)
        tokens = semantic_tokenizer.tokenize(input_values, attention_mask).semantic_tokens[0]
        yield TokenRecord(
            id=recording.id,
            speaker=recording.speaker,
            accent=recording.accent,
            source=recording.source,
            start=start / recording.sampling_rate,
            duration=(end - start) / recording.sampling_rate,
            ends_recording=end == len(recording.array),
            semantic_tokens=tokens.cpu().numpy().astype(np.int16),
            audio_codes=codec.encode(input_values, attention_mask)[0].cpu().numpy().astype(np.int16),
        )


class TokenDataset(Sequence[TokenRecord]):
    """The records of one or more token datasets, held in memory as 16 bit integers.

    Args:
        folders (`str`, `Path` or a sequence of them): folders written by [`tokenize_recordings`].

    Raises:
        FileNotFoundError: a folder is no token dataset.
        ValueError: the folders were made with different tokenizers, or hold no records.
    """

    def __init__(self, folders: str | Path | Sequence[str | Path]) -> None:
        self.folders = [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]
        infos = [_read_info(folder) for folder in self.folders]
        if not infos or any(info != infos[0] for info in infos):
            raise ValueError(
                f"{[str(folder) for folder in self.folders]} were made with different tokenizers; tokenize the "
                "recordings again with one pair."
            )
        self.info = infos[0]
        self._records = [
            record
            for folder in self.folders
            for path in sorted(folder.glob("tokens-*.parquet"))
            for record in _read_shard(path)
        ]
        if not self._records:
            raise ValueError(
                f"{[str(folder) for folder in self.folders]} hold no tokens; finish `audiolm-hf tokenize`."
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> TokenRecord:  # type: ignore[override]
        return self._records[index]

    @property
    def duration(self) -> float:
        """Seconds of audio in all records."""
        return sum(record.duration for record in self._records)


def _read_info(folder: Path) -> TokenInfo:
    path = folder / INFO_FILE
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}; give a folder that `audiolm-hf tokenize` wrote.")
    values = json.loads(path.read_text(encoding="utf-8"))
    return TokenInfo(**{field.name: values[field.name] for field in dataclasses.fields(TokenInfo)})


def _read_shard(path: Path) -> Iterator[TokenRecord]:
    for row in pq.read_table(path).to_pylist():
        yield TokenRecord(
            **row
            | {
                "semantic_tokens": np.array(row["semantic_tokens"], dtype=np.int16),
                "audio_codes": np.array(row["audio_codes"], dtype=np.int16),
            }
        )


__all__ = [
    "TokenDataset",
    "TokenInfo",
    "TokenRecord",
    "token_info",
    "tokenize_recordings",
    "tokenizers_hash",
    "write_shard",
]
