import re
import shutil
import subprocess
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autoprivacy.common.errors import BadInput, InvalidPolicy, ProfileMismatch, UnmodelledOperation
from autoprivacy.common.records import parse, save, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models import Names, compare, predict, render
from autoprivacy.models.deployments import load_deployments
from autoprivacy.models.latency_report import Estimate, LatencyReport, build_report, warnings_of
from autoprivacy.models.prediction import Components
from autoprivacy.models.report import text
from autoprivacy.models.report.charts import COMPONENTS, LEFT, RIGHT, WIDTH, layer_chart
from autoprivacy.protocol.policy import Policy
from tests import by_hand
from tests.models.deployed import RATE_BYTES_PER_S, ROUND_TRIP_S, write_declared, write_machine

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\"'&{{ 7*7 }}"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """Rows of cells by the id of their table, tags, attributes, and text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.unnamed: list[list[list[str]]] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self._rows: list[list[str]] = []
        self._in_cell = self._in_style = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._in_style = tag == "style"
        if tag == "table":
            self._rows = self.tables.setdefault(dict(attrs).get("id") or f"#{len(self.tables)}", [])
        if tag == "tr":
            self._rows.append([])
        if tag in {"td", "th"}:
            self._rows[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = self._in_cell and tag not in {"td", "th"}
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self._rows[-1][-1] += data
        if not self._in_style:
            self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, policy: Policy) -> Path:
    """Two machines, a link, and two policies."""
    made = tmp_path_factory.mktemp("report")
    write_machine(made, "office")
    write_machine(made, "laptop", slower=2.0, profile_id="fedcba9876543210")
    write_declared(made)
    save(policy, made / "p.json")
    save(by_hand.policy(1024, 26, 4), made / "q.json")
    return made


def named(folder: Path, server: str, client: str, link: str = "loopback") -> Names:
    return Names(str(folder / server), str(folder / client), link if link == "loopback" else str(folder / link))


@pytest.fixture(scope="module")
def report(folder: Path) -> LatencyReport:
    deployments = [named(folder, "office", "laptop", "wan"), named(folder, "office", "office")]
    return compare("digits-cnn", [folder / "p.json", folder / "q.json"], deployments)


def hostile(report: LatencyReport) -> LatencyReport:
    """The report with every name in it a script."""
    policies = tuple(
        replace(
            each,
            name=HOSTILE,
            policy=replace(
                each.policy,
                layers={HOSTILE + name: layer for name, layer in each.policy.layers.items()},
                made_by=replace(each.policy.made_by, method=HOSTILE, version=HOSTILE),
            ),
        )
        for each in report.policies
    )
    deployments = tuple(
        replace(
            each,
            name=HOSTILE,
            server=replace(each.server, name=HOSTILE, cpu=HOSTILE, measured_on=HOSTILE, aes_path=HOSTILE),
            link=replace(each.link, name=HOSTILE, source=HOSTILE),
        )
        for each in report.deployments
    )
    estimates = tuple(
        Estimate(
            HOSTILE,
            HOSTILE,
            replace(
                each.prediction,
                layers=tuple(replace(layer, name=HOSTILE) for layer in each.prediction.layers),
                offline=tuple(replace(layer, name=HOSTILE) for layer in each.prediction.layers),
                offline_s=1.0,
            ),
            (HOSTILE,),
        )
        for each in report.estimates
    )
    return replace(
        report, network=HOSTILE, policies=policies, deployments=deployments, estimates=estimates, comparison=None
    )


def test_a_report_reads_back_what_it_wrote(report: LatencyReport) -> None:
    assert parse(LatencyReport, to_json(report), source="report") == report


def test_python_predicts_what_the_report_says(folder: Path, report: LatencyReport) -> None:
    one = predict(
        "digits-cnn",
        folder / "p.json",
        server=str(folder / "office"),
        client=str(folder / "laptop"),
        link=str(folder / "wan"),
    )
    assert one == report.estimates[0].prediction
    assert report.comparison is not None
    assert report.comparison.latency_s[0][0] == one.latency_s


def test_a_declared_link_takes_its_trips_and_bytes(report: LatencyReport) -> None:
    over_wan = report.estimates[0].prediction
    link_s = sum(layer.components.link_s for layer in over_wan.layers)
    least = (over_wan.bytes_up + over_wan.bytes_down) / RATE_BYTES_PER_S + ROUND_TRIP_S * len(over_wan.layers)
    assert link_s > 0.99 * least


def test_the_page_shows_the_figures_of_the_report(report: LatencyReport) -> None:
    page = Page(render(report))
    check_figures(page, report)


def check_figures(page: Page, report: LatencyReport) -> None:
    rows, traffic = page.tables["estimates"][1:], page.tables["traffic"][1:]
    for row, sent, each in zip(rows, traffic, report.estimates, strict=True):
        figures = each.prediction
        assert row[:4] == [each.policy, each.deployment, text.seconds(figures.quiet_s), text.seconds(figures.latency_s)]
        assert row[4] == f"{text.seconds(figures.low_s)} to {text.seconds(figures.high_s)}"
        assert row[5] == text.seconds(figures.busy_s)
        assert sent[2:4] == [f"{figures.bytes_up:,}", f"{figures.bytes_down:,}"]
        assert sent[4:6] == [f"{figures.setup_bytes_up:,}", f"{figures.setup_bytes_down:,}"]
    assert report.comparison is not None
    for row, values in zip(page.tables["matrix"][1:], report.comparison.latency_s, strict=True):
        assert row[1:] == [text.seconds(value) for value in values]
    layers = [layer for each in report.estimates for layer in each.prediction.layers]
    fields = [field for field, _ in COMPONENTS if any(getattr(layer.components, field) for layer in layers)]
    overlaps = any(layer.components.overlapped_s for layer in layers)
    layered = [table for table in page.tables.values() if table[0][0] == "layer" and table[0][1] == "client HE"]
    for table, each in zip(layered, report.estimates, strict=True):
        for row, layer in zip(table[1:-1], each.prediction.layers, strict=True):
            shown = [text.milliseconds(getattr(layer.components, field)) for field in fields]
            if overlaps:
                shown.append(
                    "\N{MINUS SIGN}" * (layer.components.overlapped_s > 0)
                    + text.milliseconds(layer.components.overlapped_s)
                )
            assert row[: 1 + len(shown)] == [layer.name, *shown]
        assert table[-1][1 + len(fields) + overlaps] == text.milliseconds(each.prediction.latency_s)
    for deployment in report.deployments:
        assert any(deployment.client.cpu in word for word in page.words)
    for warning in {warning for each in report.estimates for warning in each.warnings}:
        assert any(warning in word for word in page.words)


def test_figures_that_are_zero_are_left_out_and_others_are_shown(report: LatencyReport) -> None:
    first = report.estimates[0]
    none = replace(first.prediction, setup_s=0.0, memory_client_bytes=0)
    one = replace(report, estimates=(replace(first, prediction=none),), comparison=None)
    for absent in ("client memory", "offline up", "set-up</th>", "client files"):
        assert absent not in render(one)
    more = replace(
        first.prediction,
        offline_s=0.5,
        offline=first.prediction.layers,
        offline_bytes_up=12345,
        setup_s=0.25,
        memory_client_bytes=7_000_000,
        spill_client_bytes=8_000_000,
    )
    page = render(replace(one, estimates=(replace(one.estimates[0], prediction=more),)))
    for shown in ("500 ms", "12,345", "250 ms", "7.00 MB", "8.00 MB", "before the image is known"):
        assert shown in page


def test_bars_are_as_long_as_what_they_show(report: LatencyReport) -> None:
    layers = report.estimates[0].prediction.layers
    work = [sum(getattr(layer.components, field) for field, _ in COMPONENTS) for layer in layers]
    span = WIDTH - LEFT - RIGHT
    for bar, layer, worked in zip(layer_chart(layers, max(work)), layers, work, strict=True):
        assert (bar.end - LEFT) / span == pytest.approx(worked / max(work))
        assert (bar.total_x - LEFT) / span == pytest.approx(layer.components.total_s / max(work))
        assert sum(segment.width for segment in bar.segments) == pytest.approx(bar.end - LEFT)
        assert bar.overlaps == (layer.components.overlapped_s > 0)


def test_components_of_a_layer_are_work_or_overlap() -> None:
    assert {field for field, _ in COMPONENTS} | {"overlapped_s"} == set(Components.__dataclass_fields__)


def test_the_page_needs_nothing_else(report: LatencyReport) -> None:
    for html in (render(report), render(hostile(report))):
        page = Page(html)
        assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
        assert not [name for name, _ in page.attributes if name in {"src", "href", "srcset"} or name.startswith("on")]
        style = html[html.index("<style>") : html.index("</style>")]
        assert not re.search(r"url\(|@import|https?:|//", style)
    assert len(render(report).encode()) < 100_000


def test_names_are_shown_and_never_run(report: LatencyReport) -> None:
    page = Page(render(hostile(report)))
    assert any(HOSTILE in word for word in page.words)
    assert "49" not in {word.strip() for word in page.words}


def browse(path: Path, tmp_path: Path) -> tuple[str, str]:
    """The page after headless Chromium ran it, and what it logged."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    done = subprocess.run(
        [*command, "--enable-logging=stderr", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found")
def test_a_browser_finds_no_error_and_the_same_figures(report: LatencyReport, tmp_path: Path) -> None:
    for name, made in (("plain", report), ("hostile", hostile(report))):
        (tmp_path / f"{name}.html").write_text(render(made), encoding="utf-8")
    (tmp_path / "broken.html").write_text("<title>t</title><script>absent()</script>", encoding="utf-8")
    plain, console = browse(tmp_path / "plain.html", tmp_path)
    assert console == ""
    check_figures(Page(plain), report)
    shown, console = browse(tmp_path / "hostile.html", tmp_path)
    assert console == ""
    assert "<title>taken" not in shown
    assert not {"script", "img"} & set(Page(shown).tags)
    assert "absent is not defined" in browse(tmp_path / "broken.html", tmp_path)[1]


def test_warnings_say_what_speaks_against_a_figure(report: LatencyReport) -> None:
    policy, facts, prediction = report.policies[0], report.deployments[0], report.estimates[0].prediction
    today = date(2026, 12, 1)
    noisy = replace(facts.server, verdict="noisy", reasons=("spells of slow-down",), interrupted=True)
    cases = {
        "spells of slow-down": replace(facts, server=noisy),
        "interrupted": replace(facts, server=noisy),
        "declared, not measured": facts,
        "did not settle": replace(facts, link=replace(facts.link, converged=False)),
        "other machines": replace(facts, link=replace(facts.link, client_profile="another")),
        "loopback": replace(facts, link=report.deployments[1].link),
        "does not say when": replace(facts, client=replace(facts.client, measured_on="long ago")),
    }
    for words, changed in cases.items():
        assert any(words in each for each in warnings_of(policy, changed, prediction, today)), words
    quiet = warnings_of(policy, report.deployments[1], replace(prediction, extrapolated=()), today)
    assert quiet == ()
    assert any("days old" in each for each in warnings_of(policy, facts, prediction, date(2027, 6, 1)))
    assert any("128 bits" in e for e in warnings_of(replace(policy, security="below"), facts, prediction, today))
    open_ = replace(policy, policy=replace(policy.policy, circuit_privacy="none"))
    assert any("privacy" in each for each in warnings_of(open_, facts, prediction, today))
    wide = replace(prediction, extrapolated=("garble (log2 items a call)",))
    assert any("garble (log2 items" in each for each in warnings_of(policy, facts, wide, today))


def test_what_cannot_be_predicted_is_refused(folder: Path, tmp_path: Path, policy: Policy) -> None:
    deployments = load_deployments([named(folder, "office", "office")])
    save(replace(policy, network_hash="0" * 64), tmp_path / "foreign.json")
    with pytest.raises(InvalidPolicy):
        build_report("digits-cnn", [tmp_path / "foreign.json"], deployments)
    stale = machine_profile.read(folder / "office")
    software = replace(stale.header.software, seal="0.0")
    machine_profile.write(replace(stale, header=replace(stale.header, software=software)), tmp_path / "stale")
    with pytest.raises(ProfileMismatch):
        load_deployments([Names(str(tmp_path / "stale"), str(folder / "office"))])
    with pytest.raises(BadInput, match="nowhere"):
        load_deployments([Names(str(folder / "office"), str(folder / "office"), "nowhere")])
    with pytest.raises(UnmodelledOperation, match="at most 1 processes"):
        load_deployments([named(folder, "office", "office")], workers=2)
    with pytest.raises(BadInput, match="at least one policy"):
        build_report("digits-cnn", [], deployments)
    with pytest.raises(BadInput, match="SERVER,CLIENT"):
        Names.parse("office")
