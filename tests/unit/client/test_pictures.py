"""Pictures of a hospital's own images: which are shown, what is drawn on them, and where they stay."""

from __future__ import annotations

import base64
import io
import re
import secrets
import stat
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras")

from PIL import Image

from client import pictures
from client.approval import Approval
from client.deployment import reporter
from client.pictures import choose, overlaid, own_pictures
from client.policy import Policy
from client.secagg_state import Member
from client.site import Site, SiteState
from shared import audit, files
from shared.examples import Arrays, Examples
from shared.layout import Entry
from shared.methods.base import NOTHING, PlainMean, Total
from shared.methods.combinators import InTurn
from shared.plan import EVALUATE, PREPARE, plan_of
from shared.randomness import for_site
from shared.secagg.keys import SigningKey
from tests.builders import examples_of, site_of, table_study
from tests.unit.client.hospitals import NOON
from tests.unit.server.test_report import Page
from tests.unit.shared.test_neural import image_study, images_of

STUDY = image_study()


def judged(plan: InTurn, rows: Examples) -> Arrays:
    """The state in which a model is judged that stayed at its first weights."""
    state = plan.start()
    while plan.stage(state) != EVALUATE:
        if plan.stage(state) == PREPARE:
            drawn = for_site(7, "north", 1, secrets.token_bytes)
            contribution, _ = plan.contribute(state, rows, NOTHING, drawn)
            total = Total(contribution.arrays, contribution.weight, 1)
        else:
            total = Total(nothing(plan.asks(state).entries), 1.0, 1)
        state, _ = plan.advance(state, total)
    return state


def nothing(entries: tuple[Entry, ...]) -> Arrays:
    return {entry.name: np.zeros(entry.shape) for entry in entries}


def test_the_surest_calls_are_shown_two_right_ones_of_class_1_and_two_wrong_ones() -> None:
    """Rows 1, 4, 6 are called sick and are; 0 and 7 are healthy and called so; 2, 3, 5 are called wrong."""
    labels = np.array([0.0, 1, 0, 0, 1, 1, 1, 0])
    called = np.array([0, 1, 1, 1, 1, 0, 1, 0])
    sure = np.array([9.0, 2, 1, 5, 3, 1, 3, 8])
    assert [4, 6, 3, 2] == choose(labels, called, sure, 2).tolist()
    assert [0, 7, 3, 2] == choose(labels, called, sure, 3).tolist()


def test_where_all_is_called_right_there_is_no_picture_of_a_wrong_call() -> None:
    ones = np.ones(3)
    assert [0, 1] == choose(ones, ones.astype(int), ones, 2).tolist()


def test_marks_are_orange_or_blue_by_their_sign_on_dimmed_grey() -> None:
    drawn = overlaid(np.full((1, 3, 1), 0.5), np.array([[2.0, 0.0, -2.0]]))
    assert [[255, 140, 26], [76.5, 76.5, 76.5], [58, 160, 255]] == pytest.approx(255 * drawn[0])


def test_an_image_without_marks_stays_grey() -> None:
    drawn = overlaid(np.ones((2, 2, 3)), np.zeros((2, 2)))
    assert np.full((2, 2, 3), 0.6).tolist() == drawn.tolist()


TRAINING, HELD_OUT = images_of(20), images_of(12, seed=1)


def reported(folder: Path, site_toml: str) -> tuple[Path, tuple[pictures.Picture, ...]]:
    """Write a hospital's own report, and return where it is, and the pictures that it may show."""
    (folder / "site.toml").write_text(site_toml)
    plan, data = plan_of(STUDY, PlainMean()), site_of("north", TRAINING, HELD_OUT)
    member = Member("north", SigningKey(bytes(32)), {}, Policy(), STUDY, secrets.token_bytes)
    approval = Approval(STUDY, "c" * 64, {"north": b"1" * 32}, "d" * 64, "small", NOON, 3, folder)
    state = judged(plan, TRAINING)
    audit.append(folder, "approved", NOON)
    reporter(folder)(approval, Site(member, data, plan), SiteState(judged=state))
    (report,) = (folder / "reports").iterdir()
    return report, own_pictures(STUDY, data, plan, state)


def test_a_hospitals_own_report_has_its_images_and_only_their_owner_reads_it(tmp_path: Path) -> None:
    report, shown = reported(tmp_path, "")
    assert files.SECRET_MODE == stat.S_IMODE(report.stat().st_mode)
    html = report.read_text(encoding="utf-8")
    sources = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="[^"]+">', html)
    assert 2 * len(shown) == len(sources) == Page(html).tags["img"]
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in html
    assert "It shows images of its patients" in Page(html).text
    # Enlarged from 8 x 8 pixels of 0 to 1, nothing of them lost: the first is one of the held-out images.
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sources[0]))))
    assert (448, 448) == pixels.shape
    assert HELD_OUT.images is not None
    originals = np.rint(255 * HELD_OUT.images[..., 0])
    assert (pixels[28::56, 28::56] == originals).all(axis=(1, 2)).any()


def test_a_page_whose_images_were_removed_reads_like_one_that_never_had_any(tmp_path: Path) -> None:
    without, _ = reported(folder_in(tmp_path, "without"), "[report]\npictures = false\n")
    removed, _ = reported(folder_in(tmp_path, "removed"), "")
    pictures.remove(removed)

    page, other = (Page(path.read_text(encoding="utf-8")) for path in (without, removed))
    assert 0 == page.tags["img"] == other.tags["img"]
    assert page.text.split() == other.text.split()
    assert "data:image" not in removed.read_text(encoding="utf-8")
    assert files.SECRET_MODE == stat.S_IMODE(removed.stat().st_mode)


def folder_in(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_a_study_without_a_page_has_no_images_to_remove(tmp_path: Path) -> None:
    pictures.remove(tmp_path / "none.html")
    assert [] == list(tmp_path.iterdir())


def test_a_study_without_images_has_no_pictures() -> None:
    study = table_study()
    rows = examples_of(np.array([[0.0, 1], [1, 0], [2, 3], [3, 1]]), [0, 1, 0, 1])
    plan = plan_of(study, PlainMean())
    assert () == own_pictures(study, site_of("north", rows), plan, judged(plan, rows))
