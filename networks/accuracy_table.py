"""The table of docs/networks.md: what the shipped checkpoints reached on `search`, as recorded when they were trained.

    python -m autoprivacy.networks.accuracy_table docs/networks.md

writes it anew, between its two markers.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from autoprivacy.common.errors import AutoPrivacyError, BadInput
from autoprivacy.common.files import read_text, write_atomic
from autoprivacy.networks import zoo
from autoprivacy.networks.accuracy import RECORDED
from autoprivacy.networks.checkpoint import TrainingRecord

BEGIN: Final = "<!-- accuracy table, made by `python -m autoprivacy.networks.accuracy_table docs/networks.md` -->"
END: Final = "<!-- end of the accuracy table -->"

_SPLIT: Final = "search"
_ENDS: Final = 8


def shipped() -> dict[str, TrainingRecord]:
    """The training records of the checkpoints that come with the package, by name, the smallest network first."""
    records = {name: zoo.load(name).training for name in zoo.names() if zoo.is_trained(name)}
    return {name: record for name, record in records.items() if record is not None}


def table(trained: dict[str, TrainingRecord]) -> str:
    """A Markdown table with two rows a network: the first and the last layer at 8 bits, and all layers alike."""
    widths = list(dict.fromkeys(bits for bits, _ in RECORDED))
    lines = [
        _line(["network", "layers", "float", *(f"{bits} bits" for bits in widths)]),
        _line(["---"] * 2 + ["--:"] * (1 + len(widths))),
    ]
    for name, record in trained.items():
        reached = {(each.bits, each.end_bits): each.fraction for each in record.accuracies if each.split == _SPLIT}
        in_float = f"{reached[None, None]:.2%}"
        ends = [f"{reached[bits, _ENDS]:.2%}" for bits in widths]
        alike = [f"{reached[bits, bits]:.2%}" for bits in widths]
        lines += [_line([f"`{name}`", "ends at 8", in_float, *ends]), _line(["", "all", "", *alike])]
    return "\n".join(lines)


def rewritten(text: str, made: str) -> str:
    """`text` with `made` between the two markers.

    Raises:
        BadInput: if it has not one of each, in this order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in before + after:
        raise BadInput(f"the line {BEGIN!r}, and after it the line {END!r}, must be there once")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"


def _line(cells: Sequence[str]) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def main() -> None:
    """Rewrite the table in the file that is named on the command line."""
    try:
        if len(sys.argv) != 2:
            raise BadInput("name the file that holds the table: docs/networks.md")
        path = Path(sys.argv[1])
        write_atomic(path, rewritten(read_text(path), table(shipped())).encode())
    except AutoPrivacyError as error:
        sys.stderr.write(f"accuracy_table: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
