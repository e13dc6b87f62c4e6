"""The report: whole, escaped, self-contained, and written in one step."""

from __future__ import annotations

import dataclasses
import errno
import re
from collections import Counter
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.model_card import model_card
from server.outcome import SiteSummary
from server.report import render, write_report
from shared import metrics, scores
from shared.errors import OutputError
from tests.unit.server.outcomes import (
    deployed_outcome,
    judgement,
    masked_outcome,
    noised_judgement,
    outcome_of,
    private_outcome,
    site_outcome,
    study_of,
)

HOSTILE = '<script>alert("x")</script>'
VOID = {"meta", "br", "wbr", "img", "circle", "line", "path", "use", "rect"}


class Page(HTMLParser):
    """Texts, headings and identifiers of a page; remembers elements that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        values = dict(attrs)
        self.ids += [values["id"]] if values.get("id") else []  # type: ignore[list-item]
        self.links += [str(values[name]) for name in ("href", "src", "xlink:href") if name in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


OUTCOMES: dict[str, dict[str, Any]] = {
    "binary": {},
    "multiclass": {"task": "multiclass"},
    "number": {"task": "number"},
    "masked": vars(masked_outcome()),
    "nothing compared": {"local": {}, "local_at_home": {}, "pooled": None},
    "nothing at home": {"per_site": {}, "local_at_home": {}},
    "no loss, no round": {"history": ()},
    "subgroups": {"subgroups": {"sex=female": judgement(study_of()), "sex=male": judgement(study_of(), 5)}},
    "deployed": vars(deployed_outcome()),
    "private": vars(private_outcome()),
    "private, several classes": vars(private_outcome("multiclass")),
    "private, deployed": vars(private_outcome(deployed=True)),
    "private, several classes, deployed": vars(private_outcome("multiclass", deployed=True)),
    "private, drowned": vars(private_outcome(deployed=True, federated=noised_judgement(study_of(), noise=200.0))),
    "nothing shown": {
        **vars(deployed_outcome()),
        "sites": tuple(SiteSummary(name, None) for name in ("north", "south", "east", "west")),
        "per_site": {},
    },
    "nothing held out": {
        "federated": metrics.judge(
            scores.count_classes(np.zeros((0, 2)), np.zeros(0), ("healthy", "ill"), 1000, 0.5),
            100,
            np.random.default_rng(0),
        )
    },
}


@cache
def page(name: str) -> str:
    """Return the page of one of the outcomes; drawn once for all tests."""
    return render(outcome_of(**OUTCOMES[name]))


def text_of(name: str) -> str:
    return Page(page(name)).text


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_kind_of_outcome_gives_a_sound_page(name: str) -> None:
    found = Page(page(name))
    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert found.tags["h1"] == 1
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b|\{\{|Undefined", found.text)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_page_needs_no_network_and_runs_no_script(name: str) -> None:
    text = page(name)
    found = Page(text)
    assert found.tags.keys().isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base"})
    assert all(link.startswith("#") for link in found.links)
    assert not re.search(r"@import|url\((?!#)|\bon[a-z]+=", text)
    assert "default-src 'none'" in text


def test_texts_of_the_study_are_escaped() -> None:
    outcome = outcome_of(study=study_of(question=f"Is it {HOSTILE}?"))
    sites = tuple(dataclasses.replace(site, name=HOSTILE, notes=(HOSTILE,)) for site in outcome.sites)
    local = {HOSTILE: outcome.pooled, f"{HOSTILE}2": outcome.pooled}
    hostile = dataclasses.replace(
        outcome, sites=sites, local=local, attributions=(HOSTILE,), description=HOSTILE, versions={HOSTILE: HOSTILE}
    )
    text = render(hostile)
    assert "<script" not in text
    assert f"Is it {HOSTILE}?" in Page(text).text


def test_the_page_holds_what_a_reader_looks_for() -> None:
    study = study_of()
    text = Page(render(outcome_of(federated=judgement(study, auroc=(0.912, 0.871, 0.953))))).text
    for wanted in (
        "Who is ill?",
        "Is it worth training together?",
        "0.912 0.871 to 0.953",
        "north alone",
        "Pooled",
        "At home",
        "the hospital did not answer",
        "Sensitivity",
        "0 to 120 years",
        "Do not read this run as private.",
        "not a medical device",
        "Data by A. Author, CC BY 4.0.",
        study.digest,
    ):
        assert wanted in text


def test_a_masked_run_and_a_bare_one_say_different_things_of_their_protection() -> None:
    masked, bare = text_of("masked"), text_of("binary")
    assert "only sums over 4 or more hospitals. One that cheats gets none over fewer than 3" in masked
    assert "all data and all keys lay on one machine" in masked
    assert "were not masked" not in masked
    assert "Nothing in it was masked or noised." in bare
    assert "can read each hospital's own sums" in bare
    assert "look random" not in bare


def test_neither_run_is_called_private() -> None:
    for text in (text_of("masked"), text_of("binary")):
        assert "Do not read this run as private." in text
        assert "no noise was added, so neither the model's weights nor the numbers" in text


def test_a_hospital_in_some_masked_sums_only_is_named() -> None:
    sentence = "is in some sums and missing in others"
    assert f"south {sentence}" in Page(render(masked_outcome("number", lost={"south": "late"}))).text
    assert sentence not in text_of("masked")


def test_a_number_has_no_roc_and_no_confusion_table() -> None:
    text = text_of("number")
    assert "Predicted and observed." in text
    assert "ROC." not in text
    assert "True class" not in text


def test_the_threshold_is_stated() -> None:
    assert "at the threshold 0.5" in text_of("binary")


def test_the_same_outcome_gives_the_same_bytes() -> None:
    assert page("binary") == render(outcome_of())


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(outcome_of(), path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_full_disk_leaves_the_report_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"report\.html: cannot be written: No space left on device"):
        write_report(outcome_of(), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_a_run_between_hospitals_shows_no_comparison_and_says_why() -> None:
    text = text_of("deployed")
    assert "This run cannot tell: between real hospitals" in text
    assert "consilium-simulate run" in text
    assert "This run made no other to compare with." in text
    for absent in ("north alone", "Pooled", "At home:", "in a simulation", "Being a simulation"):
        assert absent not in text


def test_numbers_that_hospitals_keep_are_not_shown_and_the_reader_is_told() -> None:
    text = text_of("deployed")
    assert "4 hospitals, 1,040 rows." in text
    assert "Not shown: east, west, whose own policy keeps their numbers to themselves." in text
    assert "shown where its own policy allows it; not shown: south, east, west." in text
    assert "how much data it brings (north, south)" in text


def test_the_last_hidden_hospital_is_said_to_follow_from_the_totals() -> None:
    outcome = deployed_outcome()
    shown = tuple(dataclasses.replace(site, counts=outcome.sites[0].counts) for site in outcome.sites[:3])
    one_hidden = dataclasses.replace(outcome, sites=(*shown, outcome.sites[3]))
    sentence = "those of the last follow from the totals"
    assert sentence in Page(render(one_hidden)).text
    assert sentence not in text_of("deployed")


def test_enrolled_hospitals_that_took_no_part_are_named_with_what_to_do() -> None:
    text = text_of("deployed")
    assert "lakeside not-approved the hospital has not approved this study" in text
    assert "hilltop offline the hospital's node was not connected when the run began" in text
    assert "Enrolled, and not in this run" not in text_of("binary")


def test_advice_about_a_network_is_not_given_in_a_simulation() -> None:
    assert "At the hospital," not in text_of("binary")


def test_a_private_run_between_hospitals_says_what_its_noise_promises_and_what_it_cost() -> None:
    text = text_of("private, deployed")
    assert "Differentially private for one patient at one hospital, with epsilon 5 and delta 0.0001" in text
    assert "exp(epsilon) = 148 times" in text
    assert "training training 2.50 3 4.75 4.50 evaluation held-out 0.850 1 4.98 \N{EN DASH}" in text
    assert "training patients paid epsilon 4.96, for preparation and training together" in text
    assert "A round that was begun anew" in text and "only each hospital's own ledger knows" in text
    for absent in ("No noise was added", "no noise was added", "Do not read this run as private", "They are exact"):
        assert absent not in text


def test_a_run_that_is_private_for_whole_hospitals_promises_patients_nothing_by_that_name() -> None:
    outcome = site_outcome(deployed=True)
    text = Page(render(outcome)).text
    assert "Differentially private for all patients of one hospital together, with epsilon 5 and delta 0.0001" in text
    assert "A hospital is in all stages: each hospital paid epsilon 4.99" in text
    assert "each hospital's own ledger, in patients' units" in text
    assert "one patient at one hospital" not in text + model_card(outcome)
    assert "for all patients of one hospital together: each hospital paid epsilon 4.99" in model_card(outcome)


def test_a_private_simulation_is_not_called_private_and_says_which_numbers_are_exact() -> None:
    text = text_of("private")
    assert "Do not read this run as private. Its sums were masked and noised as between hospitals" in text
    assert "Together, as released: noised" in text
    assert (
        "The models to compare with were trained without noise, and are judged without: they are not private." in text
    )


def test_a_private_run_draws_no_losses_and_says_why() -> None:
    text = text_of("private")
    assert "the losses of the rounds were not worth it" in text
    assert "Learning curve." not in text


def test_what_a_private_run_did_not_count_is_not_printed() -> None:
    """Only the table's own columns: no missing, no out-of-contract values, no classes, no hospital's numbers."""
    text = text_of("private, deployed")
    assert "Out of contract" not in text
    assert "4 hospitals, about 530 patients." in text
    assert "All about 530 not shown about 398 not shown not shown about 132 not shown" in text
    assert "Nothing of one hospital alone is shown" in text


def test_an_only_metric_is_drawn_beside_its_value() -> None:
    outcome = outcome_of("number")
    judged = dataclasses.replace(outcome.federated, metrics={"mean_difference": metrics.Interval(0.2, 0.1, 0.3)})
    each = dict.fromkeys(outcome.local, judged)
    only = {"federated": judged, "pooled": None, "local": each, "local_at_home": each, "per_site": each}
    page = render(dataclasses.replace(outcome, **only))
    # North alone, south alone and together, each with its mark.
    assert 3 == page.count('<circle class="dot"')
