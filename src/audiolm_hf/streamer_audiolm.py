# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Audio of `generate` as it is made, in another thread, like transformers' `TextIteratorStreamer` for text."""

from queue import Queue

from torch import Tensor
from transformers.generation import BaseStreamer


class AudioIteratorStreamer(BaseStreamer):
    """Iterate over the chunks of a continuation while `generate(streamer=...)` runs in another thread.

    ```python
    >>> streamer = AudioIteratorStreamer()
    >>> Thread(target=model.generate, kwargs=dict(inputs, streamer=streamer)).start()
    >>> for chunk in streamer:
    ...     play(chunk)
    ```

    Args:
        timeout (`float`, *optional*): seconds to wait for a chunk before `queue.Empty` is raised; unlimited by
            default.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self.chunks: Queue[Tensor | None] = Queue()
        self.timeout = timeout

    def put(self, value: Tensor) -> None:
        """Receive the next samples of the continuation, `(num_samples,)`."""
        self.chunks.put(value.cpu())

    def end(self) -> None:
        """Receive the end, also where `generate` fails."""
        self.chunks.put(None)

    def __iter__(self) -> "AudioIteratorStreamer":
        return self

    def __next__(self) -> Tensor:
        chunk = self.chunks.get(timeout=self.timeout)
        if chunk is None:
            raise StopIteration
        return chunk
