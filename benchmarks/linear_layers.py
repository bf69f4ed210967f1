"""Encrypted linear layers: how long, how many bytes, and how much longer than SEAL's bare operations.

Every layer runs as both parties run it, client and server in one process: encrypting, packing, unpacking, the server's
part, decrypting. Before and after each run the bare SEAL operations that it cannot do without are timed in random
order, with operands streamed through memory as the layer streams them. The ratio is taken round by round, so that the
machine's drift cancels; it can be below 1 where our own kernels take SEAL's place. Shapes are those that DELPHI,
Gazelle and MiniONN report; sets are `named_sets` and ours.

What an encryption of zero costs "in bare SEAL" is open to choice. The figures count what one needs at data level: a
plaintext to NTT, a product with the public key, and back; its randomness counts for nothing. SEAL's own `encrypt_zero`,
which works one level higher and draws its randomness, costs far more: `with_seal_encrypt_zero` in the context has it.
"""

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from statistics import geometric_mean
from typing import Any, Final

import numpy as np

from autoprivacy.common.errors import AutoPrivacyError, BadInput, InvalidPolicy
from autoprivacy.profiler.harness import reference_operation, time_block
from autoprivacy.profiler.statistics import median_interval
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.circuit_privacy import UNIFORM, CircuitPrivacy
from autoprivacy.protocol.encoded_weights import EncodedWeights, product_bytes
from autoprivacy.protocol.error_model import FAILURE_BITS, bound_to_flood, decryption_error
from autoprivacy.protocol.error_noise import Setting, noise_bound
from autoprivacy.protocol.he_set import he_set_for
from autoprivacy.protocol.layer_workers import LayerWorkers, ServerLayer
from autoprivacy.protocol.linear_layer import counts_of, default_tile_of, rotation_steps_of
from autoprivacy.protocol.linear_shape import IntArray, LinearShape
from autoprivacy.protocol.named_sets import NAMED_SETS
from autoprivacy.protocol.parties import client_of, server_of
from autoprivacy.protocol.policy import LayerPolicy
from autoprivacy.protocol.seal_context import seal_context
from autoprivacy.protocol.seal_he import SealServer
from autoprivacy.protocol.seal_keys import ClientKeys, ServerKeys
from autoprivacy.protocol.security import SecurityLabel
from autoprivacy.protocol.wire import ciphertext_bytes, response_bytes
from benchmarks.document import Document, Target, commit, parse_options, result_file

SAME = (1, 1, 1, 1)
SHAPES: Final = {
    "delphi 32x32 3-16": LinearShape(3, 32, 32, 16, (3, 3), (1, 1), SAME),
    "delphi 32x32 16-16": LinearShape(16, 32, 32, 16, (3, 3), (1, 1), SAME),
    "delphi 32x32 16-32 /2": LinearShape(16, 32, 32, 32, (3, 3), (2, 2), SAME),
    "delphi 16x16 32-32": LinearShape(32, 16, 16, 32, (3, 3), (1, 1), SAME),
    "delphi 16x16 32-64 /2": LinearShape(32, 16, 16, 64, (3, 3), (2, 2), SAME),
    "delphi 8x8 64-64": LinearShape(64, 8, 8, 64, (3, 3), (1, 1), SAME),
    "gazelle 28x28 5-5": LinearShape(5, 28, 28, 5, (5, 5), (1, 1), (2, 2, 2, 2)),
    "gazelle 16x16 1x1 128-128": LinearShape(128, 16, 16, 128, (1, 1)),
    "gazelle 32x32 32-32": LinearShape(32, 32, 32, 32, (3, 3), (1, 1), SAME),
    "gazelle 16x16 128-128": LinearShape(128, 16, 16, 128, (3, 3), (1, 1), SAME),
    "minionn 32x32 3-64": LinearShape(3, 32, 32, 64, (3, 3), (1, 1), SAME),
    "minionn 32x32 64-64": LinearShape(64, 32, 32, 64, (3, 3), (1, 1), SAME),
    "minionn 16x16 64-64": LinearShape(64, 16, 16, 64, (3, 3), (1, 1), SAME),
    "minionn 8x8 64-64": LinearShape(64, 8, 8, 64, (3, 3), (1, 1), SAME),
    "minionn 8x8 1x1 64-64": LinearShape(64, 8, 8, 64, (1, 1)),
    "minionn 8x8 1x1 64-16": LinearShape(64, 8, 8, 16, (1, 1)),
    "minionn fc 1024-10": LinearShape(1024, 1, 1, 10, (1, 1)),
}
WEIGHT_BITS, ACTIVATION_BITS = 3, 4
"""Narrow, so that every published t holds every layer: 20 bits, Gazelle's, are the least."""

OURS: Final = {"tolerant": "uniform", "error-free": "rerandomise", "error-free and private": "flood:40"}
CANDIDATES: Final = ((1024, (26,)), (2048, (53,)), (4096, (53, 53)), (8192, (60, 60, 60)))
"""The cheapest first, all within the stricter table."""

TARGETS: Final = {
    "overhead_ratio_geomean": Target("at most", 1.15),
    "overhead_ratio_worst": Target("at most", 1.3),
}
ROUNDS, LEAST_ROUNDS, QUICK_ROUNDS = 7, 3, 2
LONG_S: Final = 5.0
"""A case runs fewer rounds than `ROUNDS` where they would take longer than this."""
BLOCK_S: Final = 0.01
SEAL_ZERO: Final = "seal_encrypt_zero"
ZERO_PARTS: Final = ("zero_to_ntt", "zero_product", "zero_from_ntt")
MOST_WEIGHT_BYTES: Final = 1 << 30


@dataclass(frozen=True)
class Case:
    """One layer under one set."""

    shape_name: str
    set_name: str
    shape: LinearShape
    policy: LayerPolicy
    security: SecurityLabel
    privacy: CircuitPrivacy

    @property
    def name(self) -> str:
        """Names the case in results."""
        return f"{self.shape_name} | {self.set_name}"


def least_t_bits(shape: LinearShape) -> int:
    """Bits of t that hold every accumulator of a layer of these widths."""
    products = shape.in_channels // shape.groups * shape.kernel[0] * shape.kernel[1]
    return int(products << (WEIGHT_BITS - 1)).bit_length() + ACTIVATION_BITS


def cases(quick: bool) -> Iterator[Case]:  # noqa: FBT001 - as the command line has it
    """Every shape under every set that can hold it."""
    shapes = {name: SHAPES[name] for name in ("delphi 8x8 64-64", "minionn fc 1024-10")} if quick else SHAPES
    for shape_name, shape in shapes.items():
        bits = least_t_bits(shape)
        for set_name, named in NAMED_SETS.items():
            privacy = UNIFORM if named.packing == "coefficients" else CircuitPrivacy("rerandomise")
            try:
                policy = named.layer_policy(shape, WEIGHT_BITS, ACTIVATION_BITS, bits)
            except InvalidPolicy:
                continue
            yield Case(shape_name, set_name, shape, policy, named.security, privacy)
        for set_name, text in OURS.items():
            privacy = CircuitPrivacy.parse(text)
            yield Case(shape_name, f"{set_name}, {text}", shape, cheapest(shape, bits, privacy), "he2024", privacy)


def cheapest(shape: LinearShape, t_bits: int, privacy: CircuitPrivacy) -> LayerPolicy:
    """The first of `CANDIDATES` that is error-free, or whose errors a network tolerates where shares are rounded.

    Tolerated is a standard deviation of an eighth of the step to which accumulators are rounded anyway.
    """
    step = 2.0 ** (t_bits - 1 - ACTIVATION_BITS)
    weight = some_weights(shape)
    for n, limb_bits in CANDIDATES:
        he_set = he_set_for(n, limb_bits, 1 << t_bits)
        tile = default_tile_of(shape, "coefficients", n)
        policy = LayerPolicy("coefficients", n, he_set.limbs, he_set.t, tile, WEIGHT_BITS, ACTIVATION_BITS)
        setting = Setting(he_set, policy.layout(shape), WEIGHT_BITS, privacy, policy.response, shared=True)
        try:
            privacy.check(he_set, policy.response, noise_bound(setting))
        except InvalidPolicy:
            continue
        error = decryption_error(setting, weight)
        if privacy.kind == "uniform":
            enough = float(error.standard_deviation.max()) <= step / 8
        else:
            enough = error.failure_bits >= FAILURE_BITS
        if enough:
            return policy
    raise InvalidPolicy(f"no candidate set suits {shape} under `{privacy}`")


def some_weights(shape: LinearShape) -> IntArray:
    """Weights without zeros, always the same."""
    rng = np.random.default_rng(2026)
    weight: IntArray = rng.integers(-(2 ** (WEIGHT_BITS - 1)), 2 ** (WEIGHT_BITS - 1), shape.weight_shape)
    weight[weight == 0] = 1
    return weight


class Bench:
    """One case, set up: a call that runs the layer, and the bare operations with their counts."""

    def __init__(self, case: Case, rng: np.random.Generator) -> None:
        chosen, shape = case.policy, case.shape
        self.case = case
        self.he_set = he_set = chosen.he_set(case.security)
        self.layout = layout = chosen.layout(shape)
        self.counts = counts_of(layout)
        keys = self._keys = ClientKeys.generate(he_set)
        steps = rotation_steps_of(layout)
        server_keys = ServerKeys(he_set, keys.public_message(steps), steps)
        self.client = client_of(chosen, he_set, keys)
        self.setting = Setting(he_set, layout, WEIGHT_BITS, case.privacy, chosen.response, shared=True)
        self.server = server_of(chosen, he_set, server_keys, case.privacy, bound_to_flood(self.setting))
        self.weight = some_weights(shape)
        self.weights = linear_layer.encode_layer(self.server, layout, self.weight)
        size = (shape.in_channels, shape.height, shape.width)
        self.shares = tuple(rng.integers(0, he_set.t, (2, *size)))
        self._secret = keys.secret_for(seal_context(he_set))
        self._galois = server_keys.galois(he_set) if steps else None
        self._steps = steps
        context = seal_context(he_set)
        self._public = context.seal.PublicKey()
        context.seal.KeyGenerator(context.context, self._secret).create_public_key(self._public)

    def run(self) -> float:
        """Seconds of one layer; `check` looks at the result."""
        mine, theirs = self.shares
        start = time.perf_counter()
        requests = linear_layer.request(self.client, self.layout, mine)
        responses, kept = linear_layer.answer(self.server, self.layout, self.weights, requests, theirs)
        opened = linear_layer.finish(self.client, self.layout, responses)
        spent = time.perf_counter() - start
        self.result = (kept + opened) % self.he_set.t
        return spent

    def check(self) -> None:
        """Compare the last result with plain convolution; rounded shares may err, as far as the error model says."""
        from torch import from_numpy
        from torch.nn import functional

        t, shape = self.he_set.t, self.case.shape
        x = from_numpy(((self.shares[0] + self.shares[1]) % t).astype(np.float64)[None])
        # Shares are full-width values modulo t: convolve them in two halves, so that doubles are exact.
        low, high = x % 4096, x.div(4096, rounding_mode="floor")
        weight = from_numpy(self.weight.astype(np.float64))
        top, left, bottom, right = shape.padding
        parts = [
            functional.conv2d(
                functional.pad(half, (left, right, top, bottom)), weight, stride=shape.stride, groups=shape.groups
            )
            for half in (low, high)
        ]
        wanted = [part.numpy().astype(np.int64).ravel().astype(object) for part in parts]
        off = np.array((self.result.astype(object) - wanted[0] - wanted[1] * 4096 + t // 2) % t - t // 2)
        allowed = 0.0
        if self.case.privacy.kind == "uniform":
            # Eight deviations and the rounding itself: below 10^-14 a value.
            allowed = 1 + 8 * float(decryption_error(self.setting, self.weight).standard_deviation.max())
        if np.abs(off.astype(float)).max() > allowed:
            raise AutoPrivacyError(
                f"{self.case.name}: {np.count_nonzero(off)} wrong values, the largest off by {max(abs(off))}"
            )

    def _seal_weights(self) -> "list[object]":
        """The layer's weights as SEAL's plaintexts in NTT form; all of them, so that they stream as in the layer."""
        if isinstance(self.server, SealServer):
            return [weight for row in self.weights for weight in row if weight is not None]
        keys = ServerKeys(self.he_set, self._keys.public_message())
        seal = SealServer(self.he_set, keys, privacy=CircuitPrivacy("none"))
        encoded = linear_layer.encode_layer(seal, self.layout, self.weight)
        return [weight for row in encoded for weight in row if weight is not None]

    def bare_operations(self) -> dict[str, tuple[Callable[[], object], int]]:
        """Every SEAL operation that the layer needs, on operands that stream through memory, and how often."""
        from seal import Decryptor, Encryptor

        context, counts, packing = seal_context(self.he_set), self.counts, self.case.policy.packing
        evaluator, n = context.evaluator, self.he_set.n
        secret_encryptor = Encryptor(context.context, self._secret)
        public_encryptor = Encryptor(context.context, self._public)
        decryptor = Decryptor(context.context, self._secret)
        plain = context.encode(np.arange(n), packing)
        pool = [secret_encryptor.encrypt_symmetric(plain) for _ in range(8)]
        ntt_pool = [evaluator.transform_to_ntt(each) for each in pool]
        streamed = cycle(self._seal_weights())
        ciphertexts, in_ntt = cycle(pool), cycle(ntt_pool)
        total = evaluator.multiply_plain(ntt_pool[0], next(streamed))

        def multiply_accumulate() -> None:
            evaluator.add_inplace(total, evaluator.multiply_plain(next(in_ntt), next(streamed)))

        parms_id = context.parms_ids[len(self.he_set.limbs)]
        plain_in_ntt = evaluator.transform_to_ntt(plain, parms_id)
        level = context.parms_ids[self.case.policy.response.limbs]
        kept = context.ciphertext(context.words(pool[0]))
        evaluator.mod_switch_to_inplace(kept, level)
        found: dict[str, tuple[Callable[[], object], int]] = {
            "encrypt": (lambda: secret_encryptor.encrypt_symmetric(plain), counts.encrypt),
            "add_plain": (lambda: evaluator.add_plain(next(ciphertexts), plain), counts.receive),
            "to_ntt": (lambda: evaluator.transform_to_ntt(next(ciphertexts)), counts.to_ntt),
            "multiply_accumulate": (multiply_accumulate, counts.multiply_accumulate),
            "from_ntt": (lambda: evaluator.transform_from_ntt(next(in_ntt)), counts.from_ntt),
            "zero_to_ntt": (lambda: evaluator.transform_to_ntt(plain, parms_id), counts.respond),
            "zero_product": (lambda: evaluator.multiply_plain(ntt_pool[0], plain_in_ntt), counts.respond),
            "zero_from_ntt": (lambda: evaluator.transform_from_ntt(next(in_ntt)), counts.respond),
            SEAL_ZERO: (public_encryptor.encrypt_zero, counts.respond),
            "add": (lambda: evaluator.add(next(ciphertexts), pool[0]), counts.add + counts.respond),
            "decrypt": (lambda: decryptor.decrypt(kept), counts.decrypt),
        }
        if self.case.policy.response.limbs < len(self.he_set.limbs):
            found["mod_switch"] = (lambda: evaluator.mod_switch_to(next(ciphertexts), level), counts.respond)
        if self._galois is not None:
            step = max(self._steps)
            found["rotate"] = (
                lambda: evaluator.rotate_rows(next(ciphertexts), step, self._galois),
                counts.rotate + counts.swap_rows,
            )
        return {name: (call, count) for name, (call, count) in found.items() if count}


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """One case: the ratio round by round, seconds, bytes."""
    rng = np.random.default_rng(2026)
    bench = Bench(case, rng)
    operations = bench.bare_operations()
    once = bench.run()
    bench.check()
    rounds = max(min(rounds, LEAST_ROUNDS), min(rounds, int(LONG_S / once)))
    runs = max(1, int(2 * BLOCK_S / once))  # a block as long as those of its operations
    sizes = {name: max(1, int(BLOCK_S / max(time_block(call, 2), 1e-6))) for name, (call, _) in operations.items()}
    layer_s, bare_s, seal_s, reference_s = list[float](), list[float](), list[float](), list[float]()
    single = {name: list[float]() for name in operations}
    reference = reference_operation()
    for _ in range(rounds):
        gc.collect()
        before = _bare(operations, sizes, single, rng)
        layer_s.append(sum(bench.run() for _ in range(runs)) / runs)
        after = _bare(operations, sizes, single, rng)
        bare_s.append((before[0] + after[0]) / 2)
        seal_s.append((before[1] + after[1]) / 2)
        reference_s.append(time_block(reference, 40))
    ratios = [layer / bare for layer, bare in zip(layer_s, bare_s, strict=True)]
    n, limbs, chosen = case.policy.n, case.policy.limbs, case.policy
    shape = case.shape
    multiply_accumulates = int(np.prod(shape.weight_shape)) * shape.out_size[0] * shape.out_size[1]
    return {
        "security": case.security,
        "circuit_privacy": str(case.privacy),
        "packing": chosen.packing,
        "n": n,
        "limb_bits": [limb.bit_length() for limb in limbs],
        "t_bits": bench.he_set.t_bits,
        "layer_s": float(np.median(layer_s)),
        "overhead_ratio": float(np.median(ratios)),
        "overhead_ratio_interval": median_interval(ratios),
        "with_seal_encrypt_zero": float(np.median(np.divide(layer_s, seal_s))),
        "ns_per_multiply_accumulate": 1e9 * float(np.median(layer_s)) / multiply_accumulates,
        "bytes_up": bench.counts.encrypt * ciphertext_bytes(n, limbs),
        "bytes_down": sum(
            response_bytes(n, limbs, size, chosen.response) for size in bench.layout.response_sizes.tolist()
        ),
        "weight_bytes": bench.counts.encode * product_bytes(n, limbs),
        "counts": asdict(bench.counts),
        "samples": {
            "layer_s": layer_s,
            "bare_s": bare_s,
            "bare_with_seal_encrypt_zero_s": seal_s,
            "reference_s": reference_s,
            "operations_us": {name: [round(1e6 * s, 3) for s in seconds] for name, seconds in single.items()},
        },
    }


def _bare(
    operations: dict[str, tuple[Callable[[], object], int]],
    sizes: dict[str, int],
    single: dict[str, list[float]],
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Seconds of all bare operations of a layer, each timed in one block, in random order.

    First with an encryption of zero by its parts, then with SEAL's own.
    """
    names, spent = list(operations), dict[str, float]()
    for index in rng.permutation(len(names)):
        call, count = operations[names[index]]
        seconds = time_block(call, sizes[names[index]])
        single[names[index]].append(seconds)
        spent[names[index]] = count * seconds
    by_parts = sum(seconds for name, seconds in spent.items() if name != SEAL_ZERO)
    return by_parts, sum(seconds for name, seconds in spent.items() if name not in ZERO_PARTS)


def speed_up(case: Case, rounds: int) -> dict[str, Any]:
    """How many times as fast two workers answer as one, interleaved; the server's part alone."""
    bench = Bench(case, np.random.default_rng(1))
    n, limbs, chosen = case.policy.n, case.policy.limbs, case.policy
    size = product_bytes(n, limbs)
    weights = EncodedWeights(bench.server, bench.layout, bench.weight, size, MOST_WEIGHT_BYTES)
    requests = [ciphertext_bytes(n, limbs)] * bench.layout.inputs
    responses = [response_bytes(n, limbs, sent, chosen.response) for sent in bench.layout.response_sizes.tolist()]
    layer = ServerLayer(bench.server, bench.layout, weights, requests, responses)
    sent = linear_layer.request(bench.client, bench.layout, bench.shares[0])
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with LayerWorkers([layer], 1) as one, LayerWorkers([layer], 2) as two:
        for _ in range(rounds):
            for count, pool in ((1, one), (2, two)):
                start = time.perf_counter()
                pool.answer(0, sent, bench.shares[1])
                seconds[count].append(time.perf_counter() - start)
    ratios = [alone / split for alone, split in zip(seconds[1], seconds[2], strict=True)]
    return {
        "case": case.name,
        "times_as_fast": float(np.median(ratios)),
        "interval": median_interval(ratios),
        "one_worker_s": seconds[1],
        "two_workers_s": seconds[2],
    }


def main() -> None:
    """Run every case, or go on where an earlier run of the same commit was stopped.

    Raises:
        BadInput: if an unfinished run of another commit is in the way.
    """
    options = parse_options(__doc__.splitlines()[0])
    document = Document("linear_layers", options.quick, TARGETS)
    partial = result_file("linear_layers.partial")
    done: dict[str, Any] = {}
    if partial.exists() and not options.quick:
        before = json.loads(partial.read_text())
        if before["commit"] != commit():
            raise BadInput(f"{partial.name} is an unfinished run of {before['commit']}, this is {commit()}: remove it")
        done = before["cases"]
    started, load = time.perf_counter(), os.getloadavg()[0]
    for case in cases(options.quick):
        if case.name in done:
            continue
        if options.budget_s is not None and time.perf_counter() - started > options.budget_s:
            print(f"stopped after {len(done)} cases; the same command goes on")
            return
        encode = counts_of(case.policy.layout(case.shape)).encode * product_bytes(case.policy.n, case.policy.limbs)
        if encode > MOST_WEIGHT_BYTES:
            done[case.name] = {"left out": f"encoded weights of {encode / 2**30:.1f} GiB"}
            continue
        done[case.name] = measure(case, QUICK_ROUNDS if options.quick else ROUNDS)
        if not options.json:
            row = done[case.name]
            print(f"{case.name:45} {1e3 * row['layer_s']:9.1f} ms  ratio {row['overhead_ratio']:.3f}", flush=True)
        if not options.quick:
            partial.write_text(json.dumps({"commit": commit(), "cases": done}))
    ratios = {name: row["overhead_ratio"] for name, row in done.items() if "overhead_ratio" in row}
    measured = [row for row in done.values() if "overhead_ratio" in row]
    references = [s for row in done.values() if "samples" in row for s in row["samples"]["reference_s"]]
    document.conditions |= {
        "load_before": load,
        "drift_p95_over_median": float(np.quantile(references, 0.95) / np.median(references)),
        "interleaved": "each run of a layer lies between two timings of its bare operations, in random order",
    }
    document.figures |= {
        "overhead_ratio_geomean": geometric_mean(list(ratios.values())),
        "overhead_ratio_worst": max(ratios.values()),
    }
    parallel = ("delphi 8x8 64-64",) if options.quick else ("minionn 32x32 64-64", "gazelle 16x16 1x1 128-128")
    document.context |= {
        "worst_case": max(ratios, key=ratios.__getitem__),
        "cases_above_worst_target": sum(ratio > TARGETS["overhead_ratio_worst"].value for ratio in ratios.values()),
        "geomean_by_packing": {
            packing: geometric_mean([row["overhead_ratio"] for row in measured if row["packing"] == packing])
            for packing in ("coefficients", "slots")
        },
        "with_seal_encrypt_zero": {
            "geomean": geometric_mean([row["with_seal_encrypt_zero"] for row in measured]),
            "worst": max(row["with_seal_encrypt_zero"] for row in measured),
        },
        "two_workers": [
            speed_up(case, QUICK_ROUNDS if options.quick else ROUNDS)
            for case in cases(options.quick)
            if case.shape_name in parallel and case.set_name in {"cheetah", "tolerant, uniform", "seal-4096"}
        ],
        "cases": done,
    }
    document.finish(options)
    partial.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
