"""The model card: what the released model is for, what it was made from, how good it is, and where it ends.

After Mitchell et al. 2019, "Model Cards for Model Reporting", FAT* 2019, arXiv:1810.03993. One list of sections serves
the Markdown file in the bundle and the page of the report.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from server.meaning import text_tables
from server.outcome import Outcome, patients_and_rows
from server.subject import label_unit, majority_share, row_noun
from server.verdict import verdict_of
from shared.methods import METHODS
from shared.methods.averaging import AveragingMethod
from shared.wording import METRIC_WORDS, bytes_text, plural, range_text, share_text, value_text


@dataclass(frozen=True)
class Section:
    """One part of the card: paragraphs, then points, then a table whose first row is its head."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()


def model_card(outcome: Outcome) -> str:
    """Return the model card as Markdown."""
    lines = [f"# Model card: {_plain(outcome.study.name)}", ""]
    for section in card_sections(outcome):
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [_plain(paragraph), ""]
        lines += [f"- {_plain(point)}" for point in section.points] + [""] * bool(section.points)
        if section.table:
            head, *body = section.table
            lines += [_row(head), _row(("---",) * len(head)), *map(_row, body), ""]
    return "\n".join(lines).rstrip() + "\n"


def card_sections(outcome: Outcome, meaning: bool = True) -> tuple[Section, ...]:
    """Return the card's sections, in reading order.

    meaning: whether with what the model says, which a report shows on a page of its own.
    """
    return (
        _intended_use(outcome),
        _data(outcome),
        _method(outcome),
        _results(outcome),
        *(_meaning(outcome) if meaning else ()),
        _limits(outcome),
        Section("Attribution", points=outcome.attributions or ("No attribution was given for these data.",)),
        Section(
            "Provenance",
            (
                f"Digest of the study (SHA-256): {outcome.study.digest}",
                "Versions:"
                f" {', '.join(f'{name} {version}' for name, version in outcome.versions.items()) or 'not recorded'}.",
            ),
        ),
    )


def _intended_use(outcome: Outcome) -> Section:
    data = outcome.study.data
    unit = data.columns[data.label].unit
    said = METHODS[outcome.study.method.name].outputs
    what = (
        f"the number {data.label}{unit and f' ({unit})'}"
        if data.task == "number"
        else f"{data.label}: {' or '.join(data.classes)}"
    )
    return Section(
        "Intended use",
        (
            f"The question: {outcome.study.study.question}",
            f"The model reads {'images' if data.images else plural(len(data.features), 'column')} and"
            f" {f'says of each row {said}' if said else f'predicts {what}'}.",
            "It is a research result. It is not a medical device, it has not been validated prospectively, and it"
            " must not be used to decide about a patient.",
        ),
    )


def _data(outcome: Outcome) -> Section:
    data, preparation = outcome.study.data, outcome.preparation
    patients, rows = patients_and_rows(outcome)
    shown = [site.counts for site in outcome.sites if site.counts]
    held_out = outcome.federated.n if patients is None else sum(counts.held_out_rows for counts in shown)
    brought = plural(rows, "row") if patients is None else f"{plural(patients, 'patient')}, {plural(rows, 'row')}"
    noised = outcome.privacy is not None and patients is None
    if noised:
        brought = f"about {plural(rows, 'patient')}"
    split = (
        f"by the column {data.split_column}"
        if data.split_column
        else f"by patient ({100 * data.test_fraction:g} % of the patients, chosen by keyed hash)"
    )
    trained = f"about {preparation.rows:,} patients" if outcome.privacy else f"{preparation.rows:,} rows"
    points = [
        f"{plural(len(outcome.sites), 'hospital')}, {brought};"
        f" {trained} trained the model and {'about ' if noised else ''}{held_out:,} were held out, {split}."
    ]
    if outcome.privacy:
        points.append("Missing and out-of-contract values and classes were not counted: each count costs privacy.")
        if outcome.privacy.unit == "site":
            points.append("Where patients are counted with noise, a large hospital counts as one of a fixed size.")
        return Section("Data", points=tuple(points))
    if preparation.class_rows:
        whole = sum(preparation.class_rows)
        counts = zip(data.classes, preparation.class_rows, strict=True)
        shares = ", ".join(f"{name} {count:,} ({share_text(count, whole)})" for name, count in counts)
        points.append(f"Training rows by class: {shares}.")
    if not preparation.columns:
        return Section("Data", points=tuple(points))
    outside, missing = sum(preparation.outside.values()), sum(preparation.missing.values())
    points.append(
        f"{plural(missing, 'value')} of the training rows were missing, {outside:,} of them because they lay outside"
        " the data contract; they were filled in as the bundle's preparation says."
    )
    return Section("Data", points=tuple(points))


def _method(outcome: Outcome) -> Section:
    study = outcome.study
    up = bytes_text(sum(record.bytes_up for record in outcome.history))
    prepared = "Imputation, scaling and encoding come from sums over all hospitals. "
    if not (outcome.preparation.columns or study.data.images):
        prepared = "Nothing was imputed, scaled or encoded. "
    averages = issubclass(METHODS[study.method.name], AveragingMethod)
    strategy = f", aggregated with {study.aggregation.strategy}" if averages else ""
    return Section(
        "Method",
        (outcome.description,),
        (
            f"{plural(len(outcome.training), 'training round')}{strategy}; seed {study.study.seed}.",
            f"{prepared}Hospitals sent {up} in all.",
        ),
    )


def _results(outcome: Outcome) -> Section:
    judged = [("Together, noised" if outcome.privacy else "Together", outcome.federated)]
    if outcome.federated_exact:
        judged.append(("Together, exact", outcome.federated_exact))
    if outcome.pooled:
        judged.append(("Pooled, without noise" if outcome.privacy else "Pooled", outcome.pooled))
    units = {metric: label_unit(outcome, metric) for metric in outcome.federated.metrics}
    head = ("Metric", *(f"{name} (95 % interval)" for name, _ in judged))
    body = tuple(
        (
            METRIC_WORDS[metric].label + (f" ({unit})" if unit else ""),
            *(
                f"{value_text(metric, judgement.metrics[metric].value)}"
                f" ({range_text(metric, judgement.metrics[metric])})"
                for _, judgement in judged
            ),
        )
        for metric, unit in units.items()
    )
    verdict = verdict_of(outcome)
    about = "about " if outcome.noised else ""
    paragraphs = [
        f"On {about}{plural(outcome.together.n, f'held-out {row_noun(outcome)}')} of all hospitals. {verdict.answer}",
        *verdict.cautions,
        *_noised(outcome),
    ]
    if outcome.federated.classes:
        name, share = majority_share(outcome.federated)
        if not math.isnan(share):
            paragraphs.append(f"Calling every row {name} would have an accuracy of {share:.3f}.")
    return Section("Results", tuple(paragraphs), table=(head, *body))


def _meaning(outcome: Outcome) -> list[Section]:
    """Return what the model says: a section a table, the first with the sentences."""
    shown = text_tables(outcome.interpretation)
    sentences, dependences = outcome.interpretation.sentences, outcome.interpretation.dependences
    if dependences:
        columns = ", ".join(each.column for each in dependences)
        sentences += (f"Partial dependence on {columns} is in the report and in metrics.json.",)
    if not shown:
        return [Section("What the model says", sentences)] if sentences else []
    return [
        Section(
            f"What the model says: {table.title}",
            (
                *(sentences if index == 0 else ()),
                *((table.note,) if table.note else ()),
                *((f"Its {len(table.rows):,} rows are in the report and in metrics.json.",) if table.long else ()),
            ),
            table=() if table.long else (table.head, *table.rows),
        )
        for index, table in enumerate(shown)
    ]


def _noised(outcome: Outcome) -> list[str]:
    """Return which numbers are noised and which are not."""
    if not outcome.privacy:
        return []
    told = ["Metrics of a private run come from noised counts; their intervals cover the noise."]
    if outcome.federated_exact:
        told.append("The exact ones were computed by the simulation; a run between hospitals does not have them.")
    if outcome.compared:
        told.append("The models to compare with were trained and judged without noise.")
    return [" ".join(told)]


def _limits(outcome: Outcome) -> Section:
    data = outcome.study.data
    points = [
        "Intervals are for the chance of which patients were held out. They do not cover another split, another"
        " seed, another year or another hospital: how the model does at a hospital that did not take part is"
        " unknown.",
        "The model finds associations, not causes.",
    ]
    if outcome.federated.classes and data.task == "binary":
        points.append(
            f"Positive calls use the threshold {outcome.study.evaluation.threshold:g}, which the study fixed without"
            " weighing the harm of a missed case against that of a false alarm."
        )
    lacking = [
        site.name
        for site in outcome.sites
        if data.classes and site.counts and sum(count > 0 for count in site.counts.class_rows) == 1
    ]
    if lacking:
        points.append(f"One class only among the training rows: {', '.join(lacking)}.")
    if outcome.subgroups:
        columns = ", ".join(outcome.study.evaluation.subgroups)
        points.append(f"Judged by subgroup for {columns} only; differences between other groups are unknown.")
    else:
        points.append("Not judged by subgroup: whether it serves, say, women and men equally well is unknown.")
    points.append(_privacy(outcome))
    return Section("Limits", points=tuple(points))


def _privacy(outcome: Outcome) -> str:
    if outcome.privacy:
        it = outcome.privacy
        return (
            f"Weights, preparation and noised metrics are differentially private: epsilon {it.epsilon:g}, delta"
            f" {it.delta:g}, for {it.whom}: {it.spent}. {it.neighbours}"
            + ("" if outcome.deployed else " In this simulation all data and the noise lay on one machine.")
        )
    if outcome.study.aggregation.secure:
        where = "between hospitals" if outcome.deployed else "in a simulation"
        who = "the aggregator" if outcome.deployed else "the aggregator's code"
        trained = (
            f"Trained {where} with secure aggregation: {who} saw sums over"
            f" {outcome.smallest_sum or 'several'} or more hospitals, not one hospital's part. Masks hide what a"
            " hospital sends, not what the model says: no noise was added,"
        )
    else:
        trained = "Trained without secure aggregation and without noise:"
    return (
        f"{trained} the weights carry no privacy guarantee, and someone who has them may learn something about the"
        " patients behind them."
    )


def _plain(text: str) -> str:
    """Return text on one line, with Markdown's and HTML's signs escaped, so that a study cannot write markup."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", " ".join(text.split()))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell if cell == '---' else _plain(cell) for cell in cells)} |"
