"""Frames that no peer of ours sends, fed to every decoder: nothing but our own errors may come out.

A frame is a good one with bits flipped, bytes replaced, cut, repeated or added; or random bytes of its length or any;
or, for JSON, with values put in place of others that are of another type, at a limit or far beyond one. The same seed
gives the same mutations (keys and nonces of the good frames are fresh). A frame that takes longer than `STUCK_S`, or
more than `MOST_MEMORY_BYTES` in all, counts as a failure too.
"""

import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from autoprivacy.common.errors import AutoPrivacyError
from benchmarks.document import Document, Target, parse_options
from benchmarks.frame_decoders import Decoder, decoders

SEED: Final = 20261125
FRAMES: Final = 1_000_000
QUICK_FRAMES: Final = 10_000
STUCK_S: Final = 10.0
MOST_MEMORY_BYTES: Final = 12 << 30
FAILURES_KEPT: Final = 20
TARGETS: Final = {"frames": Target("at least", FRAMES), "other_errors": Target("at most", 0)}
ODD_VALUES: Final[tuple[Any, ...]] = (
    *(0, 1, -1, 2, 3, 7, 64, 1023, 1024, 4096, 65537, 2**31 - 1, 2**31, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64),
    *(
        -(2**63),
        10**30,
        0.5,
        -0.5,
        1e308,
        5e-324,
        True,
        False,
        None,
        "",
        "input",
        "x" * 1000,
        "\0",
        [],
        {},
        [[]],
        [0] * 99,
    ),
)
Mutation = Callable[[bytes, np.random.Generator], bytes]


def _flip(good: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(good)
    for place in rng.integers(0, 8 * len(good), rng.integers(1, 9)).tolist():
        changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _replace(good: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(0, len(good)))
    length = int(rng.integers(1, min(64, len(good) - start) + 1))
    filled = rng.bytes(length) if rng.random() < 0.5 else bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) * length
    return good[:start] + filled + good[start + length :]


def _cut(good: bytes, rng: np.random.Generator) -> bytes:
    return good[: rng.integers(0, len(good))]


def _add(good: bytes, rng: np.random.Generator) -> bytes:
    return good + rng.bytes(int(rng.integers(1, 64)))


def _repeat(good: bytes, rng: np.random.Generator) -> bytes:
    start, end = sorted(rng.integers(0, len(good) + 1, 2).tolist())
    return good[:end] + good[start:]


def _random(good: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(len(good))


def _random_length(good: bytes, rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(0, 2 * len(good))))


def _constant(good: bytes, rng: np.random.Generator) -> bytes:
    return bytes([rng.choice((0, 0xFF))]) * len(good)


def _as_it_is(good: bytes, rng: np.random.Generator) -> bytes:  # noqa: ARG001 - one of the mutations
    return good


BYTES: Final[tuple[Mutation, ...]] = (
    *(_flip, _flip, _flip, _replace, _replace, _cut, _add, _repeat),
    *(_random, _random_length, _constant, _as_it_is),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - JSON
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*path, key))


def _odd_values(good: bytes, rng: np.random.Generator) -> bytes:
    """One or two values replaced, removed, or swapped for another value of the document."""
    document = json.loads(good)
    for _ in range(int(rng.integers(1, 3))):
        places = [place for place in _places(document) if place]
        *above, last = places[rng.integers(len(places))]
        holder = document
        for key in above:
            holder = holder[key]
        action = rng.random()
        if action < 0.1:
            del holder[last]
        elif action < 0.3 and type(holder[last]) in {int, float}:
            holder[last] = holder[last] * int(rng.choice((-1, 2, 1000))) + int(rng.integers(-2, 3))
        elif action < 0.4:
            other: Any = document
            for key in places[rng.integers(len(places))]:
                other = other[key] if isinstance(other, dict | list) and _has(other, key) else other
            holder[last] = json.loads(json.dumps(other))
        else:
            holder[last] = deepcopy(ODD_VALUES[rng.integers(len(ODD_VALUES))])
        if not document:
            break
    return json.dumps(document).encode()


def _has(holder: Any, key: Any) -> bool:  # noqa: ANN401 - JSON
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


JSON: Final[tuple[Mutation, ...]] = (*BYTES, *(_odd_values,) * 2 * len(BYTES))


def mutate(decoder: Decoder, rng: np.random.Generator) -> bytes:
    """A frame that the decoder's peer would not send (once in a while, one that it would)."""
    among = JSON if decoder.form == "json" else BYTES
    return among[rng.integers(len(among))](decoder.good, rng)


class Stuck(BaseException):
    """A frame took longer than `STUCK_S`."""


@dataclass(slots=True)
class Outcome:
    """What became of a decoder's frames. `failures` are the first that ended in an error of another kind."""

    decoder: str
    frames: int = 0
    accepted: int = 0
    refused: int = 0
    other_errors: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)

    def feed(self, decode: Callable[[bytes], object], content: bytes) -> None:
        """Decode one frame."""
        start = time.perf_counter()
        signal.setitimer(signal.ITIMER_REAL, STUCK_S)
        try:
            decode(content)
            self.accepted += 1
        except AutoPrivacyError:
            self.refused += 1
        except (Exception, Stuck) as error:  # noqa: BLE001 - that is what is looked for
            self.other_errors += 1
            if len(self.failures) < FAILURES_KEPT:
                kind = f"{type(error).__name__}: {error}"
                self.failures.append({"error": kind[:300], "frame": content[:20_000].hex()})
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.perf_counter() - start
        self.frames += 1
        self.seconds += took
        self.slowest_s = max(self.slowest_s, took)


@contextmanager
def bounded() -> Iterator[None]:
    """Within it, what takes too long raises `Stuck`, and what takes too much memory a MemoryError."""

    def stop(*_: object) -> None:
        raise Stuck

    before = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, previous)


def run(frames: int, budget_s: float | None) -> list[Outcome]:
    """Feed so many frames in all, each decoder its share, until the budget is spent."""
    outcomes = []
    started = time.perf_counter()
    made = decoders()
    whole = sum(each.share for each in made)
    with bounded():
        for number, decoder in enumerate(made):
            rng = np.random.default_rng([SEED, number])
            outcome = Outcome(decoder.name)
            for _ in range(-int(-frames * decoder.share // whole)):
                if budget_s is not None and time.perf_counter() - started > budget_s:
                    break
                outcome.feed(decoder.decode, mutate(decoder, rng))
            outcomes.append(outcome)
            line = f"{decoder.name:32} {outcome.frames:8} {outcome.seconds:8.1f} s {outcome.other_errors} other errors"
            print(line, file=sys.stderr, flush=True)
    return outcomes


def main() -> None:
    """Fuzz, and write what came out."""
    options = parse_options(__doc__ or "")
    started = time.perf_counter()
    outcomes = run(QUICK_FRAMES if options.quick else FRAMES, options.budget_s)
    document = Document("fuzz_frames", options.quick or options.budget_s is not None, TARGETS)
    document.conditions = {"seed": SEED, "budget_s": options.budget_s, "stuck_s": STUCK_S}
    document.figures = {
        "frames": sum(each.frames for each in outcomes),
        "other_errors": sum(each.other_errors for each in outcomes),
    }
    document.context = {
        "seconds": time.perf_counter() - started,
        "decoders": {each.decoder: asdict(each) for each in outcomes},
    }
    document.finish(options)


if __name__ == "__main__":
    main()
