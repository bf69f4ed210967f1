"""The networks that come with the package: their graphs, and the checkpoints of those that are trained."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import checkpoint
from autoprivacy.networks.checkpoint import TrainedNetwork, untrained
from autoprivacy.networks.graph import (
    INPUT,
    Activation,
    Add,
    AvgPool,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    ReLU,
    ReLU6,
)

CHECKPOINTS: Final = Path(__file__).parent / "checkpoints"
"""Where the shipped checkpoints lie."""

CIFAR_SHAPE: Final = (3, 32, 32)


def digits_cnn() -> Network:
    """Two convolutions and a linear layer on scikit-learn's 8x8 digits: small enough for tests and the first run."""
    chain = _Chain()
    chain.conv("conv1", 8, 3).activate(ReLU, "relu1")
    chain.conv("conv2", 16, 3, stride=2).activate(ReLU, "relu2")
    chain.classify(10)
    return Network("digits-cnn", (1, 8, 8), tuple(chain.layers))


def lenet5() -> Network:
    """LeNet-5 on MNIST as it is built today: ReLU, and max pooling ([LeNet] had sigmoids and trained sub-sampling)."""
    chain = _Chain()
    chain.conv("conv1", 6, 5).activate(ReLU, "relu1").max_pool("pool1", 2)
    chain.conv("conv2", 16, 5, padding=0).activate(ReLU, "relu2").max_pool("pool2", 2).flatten()
    chain.linear("fc1", 120).activate(ReLU, "relu3")
    chain.linear("fc2", 84).activate(ReLU, "relu4")
    chain.linear("fc", 10)
    return Network("lenet5", (1, 28, 28), tuple(chain.layers))


def minionn() -> Network:
    """The 7-layer CIFAR-10 network of [MiniONN] figure 13, which Gazelle and DELPHI also run; it pools by means."""
    chain = _Chain()
    chain.conv("conv1", 64, 3).activate(ReLU, "relu1")
    chain.conv("conv2", 64, 3).activate(ReLU, "relu2").avg_pool("pool1", 2)
    chain.conv("conv3", 64, 3).activate(ReLU, "relu3")
    chain.conv("conv4", 64, 3).activate(ReLU, "relu4").avg_pool("pool2", 2)
    chain.conv("conv5", 64, 3).activate(ReLU, "relu5")
    chain.conv("conv6", 64, 1).activate(ReLU, "relu6")
    chain.conv("conv7", 16, 1).activate(ReLU, "relu7")
    chain.classify(10)
    return Network("minionn", CIFAR_SHAPE, tuple(chain.layers))


def resnet20() -> Network:
    """ResNet-20 on CIFAR-10 ([ResNet] section 4.2), with 1x1 projections where a shortcut changes shape."""
    return _cifar_resnet("resnet20", blocks=3)


def resnet32() -> Network:
    """ResNet-32 on CIFAR-10 ([ResNet] section 4.2), with 1x1 projections where a shortcut changes shape."""
    return _cifar_resnet("resnet32", blocks=5)


def _cifar_resnet(name: str, blocks: int) -> Network:
    chain = _Chain()
    chain.conv("conv1", 16, 3).activate(ReLU, "relu1")
    channels = 16
    for stage, out_channels in enumerate((16, 32, 64), start=1):
        for block in range(1, blocks + 1):
            at, entering = f"stage{stage}.block{block}", chain.last
            stride = 2 if block == 1 and stage > 1 else 1
            chain.conv(f"{at}.conv1", out_channels, 3, stride=stride).activate(ReLU, f"{at}.relu1")
            shortcut = entering
            main = chain.conv(f"{at}.conv2", out_channels, 3).last
            if channels != out_channels:
                shortcut = chain.go_back(entering).conv(f"{at}.shortcut", out_channels, 1, stride=stride).last
            chain.add(f"{at}.add", main, shortcut).activate(ReLU, f"{at}.relu2")
            channels = out_channels
    chain.avg_pool("pool", 8).classify(10)
    return Network(name, CIFAR_SHAPE, tuple(chain.layers))


_MOBILENET_STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks, stride of the first block: [MobileNetV2] table 2, with the strides of the stem
and of the second stage taken out, as 32x32 images need."""


def mobilenetv2() -> Network:
    """MobileNetV2 in the form that CIFAR-10 is given: depthwise convolutions and linear bottlenecks."""
    chain = _Chain()
    chain.conv("conv1", 32, 3).activate(ReLU6, "conv1.relu")
    channels = 32
    for stage, (expansion, out_channels, blocks, first_stride) in enumerate(_MOBILENET_STAGES, start=1):
        for block in range(1, blocks + 1):
            at, entering = f"stage{stage}.block{block}", chain.last
            stride = first_stride if block == 1 else 1
            wide = expansion * channels
            if expansion > 1:
                chain.conv(f"{at}.expand", wide, 1).activate(ReLU6, f"{at}.relu1")
            chain.conv(f"{at}.depthwise", wide, 3, stride=stride, groups=wide).activate(ReLU6, f"{at}.relu2")
            chain.conv(f"{at}.project", out_channels, 1)
            if stride == 1 and channels == out_channels:
                chain.add(f"{at}.add", chain.last, entering)
            channels = out_channels
    chain.conv("conv2", 1280, 1).activate(ReLU6, "conv2.relu").avg_pool("pool", 4).classify(10)
    return Network("mobilenetv2", CIFAR_SHAPE, tuple(chain.layers))


class _Chain:
    """Layers in a row: each reads the one before it unless told otherwise."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.last = INPUT

    def conv(
        self, name: str, channels: int, size: int, *, stride: int = 1, padding: int | None = None, groups: int = 1
    ) -> "_Chain":
        """A square convolution; by default its padding keeps the size at stride 1."""
        side = size // 2 if padding is None else padding
        return self._then(
            Conv2d(name, (self.last,), channels, (size, size), (stride, stride), (side, side, side, side), groups)
        )

    def activate(self, kind: type[Activation], name: str) -> "_Chain":
        return self._then(kind(name, (self.last,)))

    def max_pool(self, name: str, size: int) -> "_Chain":
        return self._then(MaxPool(name, (self.last,), (size, size), (size, size)))

    def avg_pool(self, name: str, size: int) -> "_Chain":
        return self._then(AvgPool(name, (self.last,), (size, size), (size, size)))

    def add(self, name: str, *sources: str) -> "_Chain":
        return self._then(Add(name, sources))

    def flatten(self) -> "_Chain":
        return self._then(Flatten("flatten", (self.last,)))

    def linear(self, name: str, features: int) -> "_Chain":
        return self._then(Linear(name, (self.last,), features))

    def classify(self, classes: int) -> "_Chain":
        return self.flatten().linear("fc", classes)

    def go_back(self, name: str) -> "_Chain":
        """Let the next layer read `name`."""
        self.last = name
        return self

    def _then(self, layer: Layer) -> "_Chain":
        self.layers.append(layer)
        self.last = layer.name
        return self


_ARCHITECTURES: Final[dict[str, Callable[[], Network]]] = {
    "digits-cnn": digits_cnn,
    "lenet5": lenet5,
    "minionn": minionn,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "mobilenetv2": mobilenetv2,
}
"""In the order of their size."""


def names() -> tuple[str, ...]:
    """The networks there are, the smallest first."""
    return tuple(_ARCHITECTURES)


def architecture(name: str) -> Network:
    """The untrained graph of a network of the zoo.

    Raises:
        BadInput: if there is none of that name.
    """
    try:
        return _ARCHITECTURES[name]()
    except KeyError:
        raise BadInput(f"no network is called {name!r}; there are: {', '.join(names())}") from None


def is_trained(name: str) -> bool:
    """Whether a checkpoint of this network is shipped."""
    return _shipped(name).exists()


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A network, and what its reader should know about how it was read."""

    trained: TrainedNetwork
    notes: tuple[str, ...] = ()


def load(name_or_path: str | Path) -> TrainedNetwork:
    """A network of the zoo by name, or that of a file: a checkpoint (.json), or an ONNX model (.onnx).

    Raises:
        BadInput: if there is no such network or file, or it cannot be used.
    """
    return load_with_notes(name_or_path).trained


def load_with_notes(name_or_path: str | Path) -> Loaded:
    """As `load`; a network of the zoo without a checkpoint has random weights, always the same, and says so."""
    name, path = str(name_or_path), Path(name_or_path)
    if name in names():
        if is_trained(name):
            return Loaded(checkpoint.load(_shipped(name)))
        note = f"{name} is untrained: its weights are random, so that its latency can be predicted, not its accuracy"
        return Loaded(untrained(architecture(name), np.random.default_rng(0)), (note,))
    if path.suffix == ".json":
        return Loaded(checkpoint.load(path))
    if path.suffix == ".onnx":
        from autoprivacy.networks.importing import onnx_import

        imported = onnx_import.load(path)
        return Loaded(imported.trained, imported.notes)
    raise BadInput(
        f"no network is called {name!r}; give a checkpoint file (.json), an ONNX model (.onnx) or one of: "
        f"{', '.join(names())}"
    )


def _shipped(name: str) -> Path:
    return CHECKPOINTS / f"{name}.json"
