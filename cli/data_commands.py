"""`data`."""

from pathlib import Path
from typing import Literal

from autoprivacy.cli.console import err, print_json, printable, say, table
from autoprivacy.common.records import record
from autoprivacy.networks import data_sources
from autoprivacy.networks.data import DIGITS, networks_on
from autoprivacy.networks.data_sets import SETS, named


@record
class FetchReport:
    """What `data fetch --json` prints; `file` is None for the set that needs no fetching."""

    name: str
    file: str | None
    sha256: str | None


@record
class SetReport:
    """One set of `data list --json`; `file` is where it is kept once it was fetched, None for the built-in one."""

    name: str
    title: str
    networks: tuple[str, ...]
    state: Literal["built in", "fetched", "not fetched"]
    file: str | None


def list_sets(*, json: bool) -> None:
    """The sets there are, and which are on this machine."""
    reports = [SetReport(DIGITS, "scikit-learn digits", networks_on(DIGITS), "built in", None)]
    for name, data_set in SETS.items():
        file = data_sources.cached(data_set)
        state: Literal["fetched", "not fetched"] = "fetched" if data_sources.is_there(file) else "not fetched"
        reports.append(SetReport(name, data_set.title, networks_on(name), state, str(file)))
    if json:
        print_json(reports)
        return
    rows = [[report.name, report.title, ", ".join(report.networks), report.state] for report in reports]
    table("data sets", ["name", "title", "networks", "state"], rows)


def fetch(name: str, source: Path | None, *, json: bool) -> None:
    """Bring a set into the cache."""
    if name == DIGITS:
        report = FetchReport(name, None, None)
        text = f"{DIGITS} comes with scikit-learn: there is nothing to fetch"
    else:
        data_set = named(name)
        file = data_sources.fetch(data_set, source, lambda line: err.print(printable(line)))
        report = FetchReport(name, str(file), data_set.sha256)
        text = f"{data_set.title}: {file}"
    if json:
        print_json(report)
    else:
        say(text)
