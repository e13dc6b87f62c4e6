"""One simulated run from data to report: the steps behind ``consilium-simulate run``."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from client.data.split import SiteData
from client.judgement import counts_of
from server import checkpoint, output
from server.judged import judged_of
from server.outcome import Outcome, RoundRecord, SiteSummary
from server.privacy import summary_of
from server.training import Observers, Progress
from shared.errors import NotWritten, OutputError
from shared.judgement import judge
from shared.methods.combinators import InTurn
from shared.plan import EVERYONE, PREPARE, TRAIN, TUNE, chosen
from shared.study import Study
from simulations import comparison
from simulations.hospitals import Hospitals
from simulations.local import Consortium, Engine, gather, in_turn

log = logging.getLogger("consilium.simulation")


class Display(Protocol):
    """Who shows a person what is going on."""

    def say(self, what: str) -> None:
        """Show what is being done now."""
        ...

    def round(self, record: RoundRecord) -> None:
        """Show that a round is finished."""
        ...


def run(
    study: Study, hospitals: Hospitals, folder: Path, resume: bool, display: Display, engine: Engine = in_turn
) -> Outcome:
    """Run a study and fill its output folder.

    Nothing is written before the study and every site's data have been checked.

    engine: what the federated training runs on; the baselines beside it are trained in this process.

    Raises: ConsiliumError of the kind that says what is wrong.
    """
    from threadpoolctl import threadpool_limits

    started = time.perf_counter()
    display.say("hospitals check their data")
    consortium = gather(study, hospitals.raw)
    identity = identity_of(study, consortium.data)
    output.claim(folder, identity, resume)
    with (
        _going_on_by_resume(),
        output.locked(folder),
        output.logged(folder),
        threadpool_limits(limits=study.study.threads),
    ):
        resumed = checkpoint.read(folder / output.CHECKPOINT, identity)
        # Time that earlier processes spent on this run counts.
        started -= sum(record.seconds for record in resumed.history) if resumed else 0.0
        plan, progress = _train(consortium, folder, identity, resumed, display, engine)
        judged_on = progress.history[-1].contributors
        # The others are trained with the options that were chosen together: what is compared is the training.
        alike = Consortium(chosen(study, plan.result(progress.state)), consortium.data)
        compared = comparison.compare(alike, judged_on, time.perf_counter, lambda what: _tell(display, what))
        display.say("writing the report")
        outcome = _outcome(consortium, plan, progress, compared, hospitals.attributions, started)
        output.write(outcome, folder)
    return outcome


@contextlib.contextmanager
def _going_on_by_resume() -> Iterator[None]:
    try:
        yield
    except NotWritten as error:
        raise OutputError(f"{error} Then go on with --resume.") from None


def _tell(display: Display, what: str) -> None:
    log.info("comparing with=%r", what)
    display.say(f"comparing: {what}")


def _train(
    consortium: Consortium,
    folder: Path,
    identity: Mapping[str, str],
    resumed: Progress | None,
    display: Display,
    engine: Engine,
) -> tuple[InTurn, Progress]:
    if resumed:
        log.info("resumed after exchange=%d", len(resumed.history))
        for record in resumed.history:
            display.round(record)
    observers = Observers(
        clock=time.perf_counter,
        save=lambda progress: checkpoint.write(folder / output.CHECKPOINT, identity, progress),
        report=display.round,
    )
    return consortium.run(observers, resumed, engine)


def _outcome(
    consortium: Consortium,
    plan: InTurn,
    progress: Progress,
    compared: comparison.Comparison,
    attributions: Sequence[str],
    started: float,
) -> Outcome:
    from shared.provenance import code_digest, versions

    study = consortium.study
    results = plan.result(progress.state)
    judged = judged_of(study, results)
    per_site = {
        name: judge(study, f"site/{name}", comparison.kept_sums(plan, progress, data.parts))
        for name, data in consortium.data.items()
    }
    exact = None
    if study.privacy:
        sums = comparison.exact_sums(consortium, plan, progress, progress.history[-1].contributors)
        exact = judge(study, f"exact/{EVERYONE}", sums)
    method: Any = plan.method(progress.state, TRAIN)  # a ModelMethod
    return Outcome(
        study=study,
        sites=tuple(_summary(study, data, data.name in compared.failed) for data in consortium.data.values()),
        preparation=results[PREPARE],
        weights=results[TRAIN],
        history=progress.history,
        federated=judged.everyone,
        subgroups=judged.subgroups,
        per_site=per_site,
        pooled=compared.pooled,
        local=compared.local,
        local_at_home=compared.local_at_home,
        cautions=_cautions(compared, progress),
        attributions=tuple(attributions),
        description=method.description(),
        choice=results.get(TUNE),
        interpretation=judged.with_importance(method.interpretation(results[TRAIN])),
        seconds_total=time.perf_counter() - started,
        peak_memory_bytes=output.peak_memory_bytes(),
        versions={**versions(), "code": code_digest()},
        privacy=summary_of(study),
        federated_exact=exact,
    )


def _cautions(compared: comparison.Comparison, progress: Progress) -> tuple[str, ...]:
    """Return sentences about what is missing from the comparison."""
    cautions = []
    if comparison.POOLED in compared.failed:
        cautions.append("With all data in one place, the same training gave no model: there is none to compare with.")
    missing = progress.history[-1].dropped
    if missing:
        cautions.append(
            f"Missing when the models were judged: {', '.join(missing)}. The held-out rows are those of the other"
            " hospitals, for every model alike."
        )
    return tuple(cautions)


def _summary(study: Study, data: SiteData, failed_alone: bool) -> SiteSummary:
    classes = study.data.classes
    counts = counts_of(data, len(classes))
    absent = [name for name, rows in zip(classes, counts.class_rows, strict=True) if not rows]
    notes = list(data.notes)
    if absent:
        notes.append(f"No training row of class {', '.join(absent)}.")
    if failed_alone:
        notes.append("On this hospital's data alone, the training gave no model: there is none to compare with.")
    return SiteSummary(data.name, counts, tuple(notes))


def identity_of(study: Study, data: Mapping[str, SiteData]) -> dict[str, str]:
    """Return what makes two runs the same run: the study's name and digest, and a digest of all sites' data."""
    digest = hashlib.sha256()
    for name, site in data.items():
        for part, examples in ((part, rows.whole()) for part, rows in site.parts.items()):
            digest.update(f"{name}\x1f{part}\x1f{len(examples)}\x1f".encode())
            for array in (examples.values, examples.outside, examples.labels, examples.images, examples.events):
                if array is not None:
                    digest.update(np.ascontiguousarray(array).tobytes())
    return {"study": study.name, "digest": study.digest, "data": digest.hexdigest()}
