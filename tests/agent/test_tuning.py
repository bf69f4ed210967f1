"""The whole chain on a synthetic machine: everything but the measuring of the profile is real."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoprivacy.agent import contenders, machines
from autoprivacy.agent.contenders import contender, suitable_images
from autoprivacy.agent.pricing import DeploymentPricing
from autoprivacy.agent.report import render_story
from autoprivacy.agent.runners_up import numbers_of, runners_up
from autoprivacy.agent.searching import Search, Settings
from autoprivacy.agent.story import Story, story_of
from autoprivacy.agent.tuning import Asked, Tuned, tune
from autoprivacy.common.errors import BadInput
from autoprivacy.common.progress import silent
from autoprivacy.common.records import load as load_record
from autoprivacy.common.records import parse, to_json
from autoprivacy.hwprofiles import machine_profile
from autoprivacy.models.prediction import Deployment
from autoprivacy.networks import load
from autoprivacy.protocol.policy import Policy
from tests import by_hand, synthetic
from tests.models.test_report import HOSTILE, Page

SETTINGS = Settings(
    max_accuracy_drop=0.03, packings=("coefficients",), weight_bits=(4, 8), activation_bits=(4, 8), judged_images=300,
    sensitivity_images=150,
)  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Tuned]]:
    folder = tmp_path_factory.mktemp("tuned")
    asked = Asked(
        trained=load("digits-cnn"),
        source="digits-cnn",
        data=by_hand.splits(),
        out=folder,
        version="0",
        settings=SETTINGS,
        images=2,
        profile=synthetic.profile(),
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(contenders, "COMPARED", ("best uniform set at 2^-40",))
        patched.setattr(machines, "must_hold", lambda *_: None)
        yield folder, tune(asked, silent)


def test_the_answer_ran_and_keeps_its_promise(ran: tuple[Path, Tuned]) -> None:
    folder, done = ran
    answer = load_record(Policy, folder / "policies" / "policy.json")
    assert answer == next(each.policy for each in done.chosen.predictions.policies if each.label == done.run.winner)
    assert answer.made_by.accuracy_drop_upper is not None
    assert answer.made_by.accuracy_drop_upper <= 0.03
    assert answer.made_by.profiles == done.chosen.machines.ids
    labels = [each.label for each in done.confirmation.policies]
    assert labels[0] == done.run.winner
    assert {"chosen", "runner-up 1", "best uniform set at 2^-40"} <= set(labels)
    for policy in done.confirmation.policies:
        assert policy.logits_explained == policy.images == 2
        assert policy.bytes_as_planned
    for label, reason in (each.split(":", 1) for each in done.run.left_out):
        assert label not in labels
        assert reason


def test_the_next_run_begins_with_what_was_learnt(ran: tuple[Path, Tuned]) -> None:
    folder, done = ran
    kept = machine_profile.read(folder / "profile")
    taught = machine_profile.read(folder / "profile-confirmed")
    assert kept == done.chosen.machines.client
    assert not any(run.confirmed for run in kept.runs)
    assert done.lesson is not None
    assert sum(run.confirmed for run in taught.runs) == len(done.lesson.policies)
    assert taught.header.id == done.lesson.profile_after != done.lesson.profile_before


def test_a_run_folder_tells_its_story_again(ran: tuple[Path, Tuned]) -> None:
    folder, done = ran
    story = story_of(folder)
    assert parse(Story, to_json(story), source="story") == story
    assert story.confirmation == done.confirmation
    html = render_story(story)
    assert html == render_story(parse(Story, to_json(story), source="story"))
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name in {"src", "href", "srcset"} or name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:|//", html[html.index("<style>") : html.index("</style>")])
    words = " ".join(page.words)
    for each in story.confirmation.policies:
        assert each.label in words
        assert f"{each.logits_explained} of {each.images}" in words
    assert len(html.encode()) < 120_000


def test_names_in_a_story_are_shown_and_never_run(ran: tuple[Path, Tuned]) -> None:
    story = story_of(ran[0])
    policies = tuple(
        replace(each, label=HOSTILE + each.label, online=replace(each.online, layers=())) if index else each
        for index, each in enumerate(story.confirmation.policies)
    )
    predicted = tuple(replace(each, label=HOSTILE + each.label) for each in story.predictions.policies)
    hostile = replace(
        story,
        run=replace(story.run, network=HOSTILE, left_out=(HOSTILE,)),
        confirmation=replace(story.confirmation, policies=policies, verdicts=()),
        predictions=replace(story.predictions, policies=(*story.predictions.policies, *predicted)),
    )
    page = Page(render_story(hostile))
    assert any(HOSTILE in word for word in page.words)
    assert not {"script", "img"} & set(page.tags)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"run\.json is missing"):
        story_of(tmp_path)


@pytest.fixture(scope="module")
def search() -> Search:
    model = synthetic.model()
    pricing = DeploymentPricing(Deployment(model, model))
    return Search(load("digits-cnn"), by_hand.splits(), pricing, SETTINGS, silent)


def test_runners_up_keep_the_limit_and_differ(ran: tuple[Path, Tuned], search: Search) -> None:
    found = ran[1].chosen.found
    others = runners_up(search, found.policy, 3)
    assert others
    assert len({str(each.layers) for each in (found.policy, *others)}) == 1 + len(others)
    latencies = [each.made_by.predicted_latency_s or 0.0 for each in others]
    assert latencies == sorted(latencies)
    for each in others:
        assert each.made_by.accuracy_drop_upper is not None
        assert each.made_by.accuracy_drop_upper <= SETTINGS.max_accuracy_drop
        changed = [name for name in each.layers if each.layers[name] != found.policy.layers[name]]
        assert len(changed) == 1
    assert runners_up(search, found.policy, 0) == ()
    numbers = numbers_of(search.tables(), found.policy)
    assert search.tables().policy(numbers) == found.policy.layers


def test_images_fit_the_time(ran: tuple[Path, Tuned], search: Search) -> None:
    model = synthetic.model()
    made = contender(search, "chosen", ran[1].chosen.found.policy, Deployment(model, model))
    assert suitable_images([made], 300) == 30
    assert suitable_images([made], 4) == 4
    slow = replace(made, prediction=replace(made.prediction, latency_s=40.0))
    assert suitable_images([slow], 300) == 6
