"""The server's side of all linear layers, in this process or split among forked ones.

A layer is split by its responses, in order: those of one window, bundle of groups or slab follow one another, so as few
inputs as can be are needed by several workers. Forked processes share the encoded weights with this one. What goes
between processes is plain bytes; masks come from the operating system at every draw, so no two processes repeat one
another's.
"""

import multiprocessing
import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Final, Self

import numpy as np

from autoprivacy.common.errors import AutoPrivacyError, ProtocolError
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.encoded_weights import EncodedWeights
from autoprivacy.protocol.linear_layer import Layout
from autoprivacy.protocol.linear_shape import IntArray
from autoprivacy.protocol.parties import AnyServer

_TASK: Final = struct.Struct("<I?")
_DONE, _REFUSED = b"\0", b"\1"


@dataclass(frozen=True, slots=True, eq=False)
class ServerLayer:
    """One linear layer, ready to answer; sizes are bytes of each request and of each response."""

    he: AnyServer
    layout: Layout
    weights: EncodedWeights[object]
    request_sizes: Sequence[int]
    response_sizes: Sequence[int]

    def answer(
        self, requests: Sequence[bytes], share: IntArray | None, chosen: Sequence[int] | None = None
    ) -> tuple[list[bytes], IntArray]:
        """As `linear_layer.answer`."""
        return linear_layer.answer(self.he, self.layout, self.weights, requests, share, chosen)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        shape = self.layout.shape
        return shape.in_channels, shape.height, shape.width


class WorkerDied(AutoPrivacyError):  # noqa: N818 - named for what happened
    """A worker process ended on its own."""


class LayerWorkers:
    """Answers for layers with so many processes; with one, this is it. To be closed, or used in a `with`."""

    def __init__(self, layers: Sequence[ServerLayer], workers: int = 1) -> None:
        self._layers = layers
        self._pipes: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("fork")
        for worker in range(workers if workers > 1 else 0):
            near, far = context.Pipe()
            process = context.Process(target=self._work, args=(worker, workers, far), daemon=True)
            process.start()
            far.close()
            self._pipes.append(near)
            self._processes.append(process)

    def answer(self, layer: int, requests: Sequence[bytes], share: IntArray | None) -> tuple[list[bytes], IntArray]:
        """As `linear_layer.answer`, of the layer with that index.

        Raises:
            ProtocolError: if the peer's message cannot be worked on.
            WorkerDied: if a worker process is gone.
        """
        served = self._layers[layer]
        if not self._pipes:
            return served.answer(requests, share)
        task = _TASK.pack(layer, share is not None) + b"".join(requests) + (b"" if share is None else share.tobytes())
        responses: list[bytes] = []
        kept = np.zeros(served.layout.shape.output_values, np.int64)
        try:
            for pipe in self._pipes:
                pipe.send_bytes(task)
            replies = [pipe.recv_bytes() for pipe in self._pipes]
        except (EOFError, OSError):
            raise WorkerDied("a worker process ended unexpectedly; is memory short? start with fewer workers") from None
        for worker, reply in enumerate(replies):
            if reply[:1] == _REFUSED:
                raise ProtocolError(reply[1:].decode())
            chosen = _part(served, worker, len(self._pipes))
            sizes = [served.response_sizes[response] for response in chosen]
            responses += split(reply[1 : 1 + sum(sizes)], sizes)
            kept += np.frombuffer(reply, np.int64, offset=1 + sum(sizes))
        return responses, kept

    def _work(self, worker: int, workers: int, pipe: Connection) -> None:
        """A worker's life: until its parent closes the pipe, or is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        # Of all that was inherited only this pipe and what the worker may say is kept: other clients' connections, and
        # the pipes of their workers, must end when the parent closes them.
        os.closerange(3, pipe.fileno())
        os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        while True:
            try:
                task = pipe.recv_bytes()
            except EOFError:
                return
            layer, shared = _TASK.unpack_from(task)
            served = self._layers[layer]
            end = _TASK.size + sum(served.request_sizes)
            requests = split(task[_TASK.size : end], served.request_sizes)
            share = np.frombuffer(task, np.int64, offset=end).reshape(served.input_shape) if shared else None
            try:
                responses, kept = served.answer(requests, share, _part(served, worker, workers))
                pipe.send_bytes(b"".join((_DONE, *responses, kept.tobytes())))
            except ProtocolError as error:
                pipe.send_bytes(_REFUSED + str(error).encode())

    def close(self) -> None:
        """End the workers."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def split(content: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Consecutive pieces of these sizes."""
    ends = np.cumsum(sizes).tolist()
    return [content[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _part(layer: ServerLayer, worker: int, workers: int) -> range:
    """The responses of one worker: consecutive, and as many as the others have, or one fewer."""
    count = layer.layout.responses
    return range(worker * count // workers, (worker + 1) * count // workers)
