"""Linear layers of many shapes, plain convolution, and one way to run a layer: what tests of both packings share."""

from itertools import product

import numpy as np
from hypothesis import strategies as st

from autoprivacy.networks import zoo
from autoprivacy.networks.graph import infer_shapes
from autoprivacy.protocol import linear_layer
from autoprivacy.protocol.linear_shape import LinearShape, linear_shape

T = 1 << 20
KINDS = {
    "square": LinearShape(4, 9, 9, 5, (3, 3), (1, 1), (1, 1, 1, 1)),
    "rectangular": LinearShape(3, 7, 12, 4, (2, 5), (2, 1), (1, 0, 0, 3)),
    "pointwise": LinearShape(9, 6, 6, 7, (1, 1)),
    "strided pointwise": LinearShape(5, 9, 8, 3, (1, 1), (2, 3)),
    "stride beyond the kernel": LinearShape(2, 11, 13, 3, (2, 3), (3, 4), (1, 2, 1, 0)),
    "depthwise": LinearShape(12, 8, 8, 12, (3, 3), (1, 1), (1, 1, 1, 1), 12),
    "depthwise, small images": LinearShape(24, 3, 3, 24, (3, 3), (1, 1), (1, 1, 1, 1), 24),
    "depthwise, three of each": LinearShape(5, 6, 6, 15, (3, 3), (2, 2), (1, 1, 1, 1), 5),
    "grouped": LinearShape(12, 6, 5, 8, (3, 2), (1, 2), (0, 1, 2, 0), 4),
    "mostly padding": LinearShape(2, 1, 2, 3, (3, 5), (1, 1), (1, 2, 1, 2)),
    "larger than a ciphertext": LinearShape(2, 40, 41, 3, (3, 3), (1, 1), (1, 1, 1, 1)),
    "one wide row": LinearShape(1, 2, 1500, 2, (2, 9), (1, 2), (0, 4, 0, 4)),
    "fully connected": LinearShape(300, 1, 1, 40, (1, 1)),
}


def convolve(shape, x, weight):
    """Plain convolution tap by tap, flat."""
    top, left, bottom, right = shape.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    height, width = shape.out_size
    out = np.zeros((shape.groups, shape.out_channels // shape.groups, height, width), np.int64)
    for i, j in product(range(shape.kernel[0]), range(shape.kernel[1])):
        seen = padded[:, i :: shape.stride[0], j :: shape.stride[1]][:, :height, :width]
        taps = weight[:, :, i, j].reshape(*out.shape[:2], -1)
        out += np.einsum("gmc,gchw->gmhw", taps, seen.reshape(shape.groups, -1, height, width))
    return out.ravel()


@st.composite
def shapes(draw):
    groups = draw(st.sampled_from((1, 1, 2, 3, 5, 9)))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 5)))
    padding = tuple(draw(st.integers(0, side - 1)) for side in kernel * 2)
    room = (kernel[0] - padding[0] - padding[2], kernel[1] - padding[1] - padding[3])
    return LinearShape(
        in_channels=groups * draw(st.integers(1, 6 if groups == 1 else 2)),
        height=draw(st.integers(max(1, room[0]), 12)),
        width=draw(st.integers(max(1, room[1]), 12)),
        out_channels=groups * draw(st.integers(1, 6 if groups == 1 else 3)),
        kernel=kernel,
        stride=draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        padding=padding,
        groups=groups,
    )


def tensors(shape, rng, high=16):
    x = rng.integers(0, high, (shape.in_channels, shape.height, shape.width))
    weight = rng.integers(-high // 2, high // 2, shape.weight_shape)
    weight[rng.random(shape.out_channels) < 0.2] = 0
    return x, weight


def run(client, server, layout, weight, client_share, server_share, t):
    encoded = linear_layer.encode_layer(server, layout, weight)
    requests = linear_layer.request(client, layout, client_share)
    responses, kept = linear_layer.answer(server, layout, encoded, requests, server_share)
    return (kept + linear_layer.finish(client, layout, responses) + t // 2) % t - t // 2


def zoo_shapes():
    """Every linear layer of the zoo, each shape once, by the name of one that has it."""
    found: dict[LinearShape, str] = {}
    for name in zoo.names():
        network = zoo.architecture(name)
        sizes = infer_shapes(network)
        for layer in network.linear_layers:
            shape = linear_shape(layer, sizes[layer.inputs[0]])
            assert (shape.out_channels, *shape.out_size) == (*sizes[layer.name], 1, 1)[:3]
            found.setdefault(shape, f"{name}.{layer.name}")
    return {name: shape for shape, name in found.items()}


ZOO = zoo_shapes()
