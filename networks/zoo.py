"""The networks that come with the package: their graphs, and the checkpoints of those that are trained."""

from pathlib import Path
from typing import Final

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import checkpoint
from autoprivacy.networks.checkpoint import TrainedNetwork
from autoprivacy.networks.graph import INPUT, Conv2d, Flatten, Linear, Network, ReLU

CHECKPOINTS: Final = Path(__file__).parent / "checkpoints"
"""Where the shipped checkpoints lie."""


def digits_cnn() -> Network:
    """Two convolutions and a linear layer on scikit-learn's 8x8 digits: small enough for tests and the first run."""
    return Network(
        name="digits-cnn",
        input_shape=(1, 8, 8),
        layers=(
            Conv2d("conv1", (INPUT,), out_channels=8, kernel=3, padding=1),
            ReLU("relu1", ("conv1",)),
            Conv2d("conv2", ("relu1",), out_channels=16, kernel=3, stride=2, padding=1),
            ReLU("relu2", ("conv2",)),
            Flatten("flatten", ("relu2",)),
            Linear("fc", ("flatten",), out_features=10),
        ),
    )


_ARCHITECTURES: Final = {"digits-cnn": digits_cnn}


def names() -> tuple[str, ...]:
    """The networks there are."""
    return tuple(sorted(_ARCHITECTURES))


def architecture(name: str) -> Network:
    """The untrained graph of a network of the zoo.

    Raises:
        BadInput: if there is none of that name.
    """
    try:
        return _ARCHITECTURES[name]()
    except KeyError:
        raise BadInput(f"no network is called {name!r}; there are: {', '.join(names())}") from None


def load(name_or_path: str | Path) -> TrainedNetwork:
    """The shipped checkpoint of that name, or the checkpoint file at that path (it ends in .json).

    Raises:
        BadInput: if there is no such network or file, or it is damaged.
    """
    shipped = CHECKPOINTS / f"{name_or_path}.json"
    if str(name_or_path) in names() and shipped.exists():
        return checkpoint.load(shipped)
    path = Path(name_or_path)
    if path.suffix == ".json":
        return checkpoint.load(path)
    trained = [name for name in names() if (CHECKPOINTS / f"{name}.json").exists()]
    raise BadInput(
        f"no trained network is called {str(name_or_path)!r}; give a checkpoint file (.json) or one of: "
        f"{', '.join(trained)}"
    )
