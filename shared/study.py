"""The study file: what is asked, of which data, with which method, and how it is judged.

A study is a TOML file with a closed key set (DESIGN section 4). It is parsed once into frozen dataclasses; a value that
exists is valid. Everybody reads the same file, and its ``digest`` is what hospitals approve: the SHA-256 of the
canonical JSON of every part but ``[simulation]``, with all defaults written out, so that white space and comments do
not matter and a changed default does.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shared.aggregation import STRATEGIES, Aggregation
from shared.errors import StudyError, nearest
from shared.methods import METHODS
from shared.privacy.settings import Privacy
from shared.schema import CLOSED, DataContract
from shared.tuning import Tuning, tuned, words
from shared.validation import explain


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class About:
    """The ``[study]`` part.

    name: short name; letters, digits, ``_`` and ``-``.
    question: the clinical question in one sentence; opens the report.
    seed: every generator of the study derives from it.
    threads: processor threads for one operation; another number gives other bits.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    question: str
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    threads: Annotated[int, Field(ge=1, le=64)] = 1


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class MethodChoice:
    """The ``[method]`` part.

    name: a key of ``shared.methods.METHODS``.
    rounds: training rounds.
    options: the method's own options, a frozen dataclass of its module.
    """

    name: str
    rounds: Annotated[int, Field(ge=1, le=100_000)]
    options: Any = None


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Evaluation:
    """The ``[evaluation]`` part.

    threshold: a probability at least this large counts as "yes" in a binary study.
    histogram_bins: bins of the score histograms, an even number.
    bootstrap_replicates: Poisson resamples behind each interval.
    subgroups: categorical columns by whose levels the model is judged too.
    importance: whether the model is also judged with each column's values dealt anew (permutation importance).
    """

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    histogram_bins: Annotated[int, Field(ge=1000, le=65536, multiple_of=2)] = 16384
    bootstrap_replicates: Annotated[int, Field(ge=100, le=10_000)] = 500
    subgroups: tuple[str, ...] = ()
    importance: bool = False


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Simulation:
    """The ``[simulation]`` part: where a researcher's machine takes data from. Not part of the digest.

    dataset: a name of ``consilium-simulate list``; without it the data come from ``--data`` or ``--site``.
    sites: how many hospitals the data are dealt to.
    partition: ``iid``, ``dirichlet:A``, ``quantity:A`` or ``column:NAME``.
    compare: the baselines trained beside the federated model.
    faults: what goes wrong with a site, each ``SITE EXCHANGE KIND [STEP]`` (``simulations/faults.py``).
    labelled_share: share of the patients to train on who keep their label, by keyed hash.
    contributors_may_shrink: whether an exact method goes on without a lost site, whose part can then be found by
        subtraction; real hospitals say so in their own policy.
    """

    dataset: str | None = None
    sites: Annotated[int, Field(ge=1, le=1000)] = 5
    partition: str = "iid"
    compare: tuple[Literal["pooled", "local"], ...] = ("pooled", "local")
    faults: tuple[str, ...] = ()
    labelled_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    contributors_may_shrink: bool = False


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Study:
    """One whole study. Made by ``parse_study`` and ``load_study``."""

    study: About
    data: DataContract
    method: MethodChoice
    aggregation: Aggregation = Field(default_factory=Aggregation)
    privacy: Privacy | None = None
    tuning: Tuning | None = None
    evaluation: Evaluation = Field(default_factory=Evaluation)
    simulation: Simulation = Field(default_factory=Simulation)

    def __post_init__(self) -> None:
        for name in self.evaluation.subgroups:
            column = self.data.columns.get(name)
            if column is None or column.type != "category" or name not in self.data.features:
                raise ValueError(f"[evaluation] subgroups must name categorical feature columns. Received: {name!r}")
        if self.evaluation.importance and (self.privacy or not self.data.features):
            raise ValueError(
                "[evaluation] importance judges the model once more for each column: expected columns, and no"
                f" [privacy], whose epsilon that would cost. Received: {'[privacy]' if self.privacy else 'no columns'}"
            )
        if self.privacy and self.tuning:
            raise ValueError("[tuning] tries many models, and each would cost epsilon. Received: a [privacy] part, too")
        if self.privacy and not self.aggregation.secure:
            raise ValueError(
                "[privacy] spreads the noise of sums over the hospitals, so that only their sum is private: expected"
                " [aggregation] secure = true. Received: secure = false"
            )

    @property
    def name(self) -> str:
        """Short name of the study."""
        return self.study.name

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hex, of the canonical JSON of ``approved_parts``."""
        return digest_of(approved_parts(self))


_LATER: dict[tuple[str, ...], Any] = {
    ("privacy",): None,
    ("tuning",): None,
    ("data", "texts"): {},
    ("data", "steps"): None,
    ("data", "event"): None,
    ("data", "unlabelled"): False,
    ("evaluation", "importance"): False,
    ("method", "options", "augment"): False,
    ("method", "options", "pseudo_labels"): None,
}
"""Keys that came after the first studies were approved, and what they are where they are not used."""


def approved_parts(study: Study) -> dict[str, Any]:
    """Return what hospitals approve, as ``as_plain``: every part but ``[simulation]``.

    What came later and is not used is left out: studies that were approved before keep their digest.
    """
    plain = as_plain(study)
    del plain["simulation"]
    for (*parts, key), unused in _LATER.items():
        part = functools.reduce(dict.__getitem__, parts, plain)
        if part.get(key, unused) == unused:
            part.pop(key, None)
    return plain


def as_plain(study: Study) -> dict[str, Any]:
    """Return the study as dictionaries, lists, texts and numbers, with all defaults written out."""
    plain: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(dataclasses.asdict(study), mode="json")
    return plain


def digest_of(value: Any) -> str:
    """Return the SHA-256, in hex, of the canonical JSON of ``value``: sorted keys, no white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def load_study(path: Path, changes: Sequence[tuple[str, str]] = ()) -> Study:
    """Read a study file.

    path: the TOML file.
    changes: (``section.key``, value as written in TOML) pairs that replace what the file says.

    Raises: StudyError if the file cannot be read, or says something that cannot be.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such study file. `consilium-simulate list` names the studies shipped.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as text: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"{path}: not valid TOML: {error}") from None
    for key, text in changes:
        _change(raw, key, text)
    return parse_study(raw, str(path))


def parse_study(raw: Mapping[str, Any], source: str) -> Study:
    """Check a study and return it.

    raw: the parts by name, as TOML gives them.
    source: what errors call this study, usually the file's name.

    Raises: StudyError naming source, key, what was expected, what was received, and the nearest known key.
    """
    study: Study = _check(Study, raw, source, ())
    if study.method.name not in METHODS:
        raise StudyError(
            f"{source}: [method] name: expected a known method. Received: {study.method.name!r}. "
            + nearest(study.method.name, METHODS)
        )
    options = _check(METHODS[study.method.name].Options, study.method.options or {}, source, ("method", "options"))
    strategy = _check(
        STRATEGIES[study.aggregation.strategy], study.aggregation.options or {}, source, ("aggregation", "options")
    )
    whole = dataclasses.replace(
        study,
        method=dataclasses.replace(study.method, options=options),
        aggregation=dataclasses.replace(study.aggregation, options=strategy),
    )
    if whole.data.event and not METHODS[whole.method.name].censored:
        known = ", ".join(repr(name) for name, method in METHODS.items() if method.censored)
        raise StudyError(
            f"{source}: [data] event: only {known} knows censored times; another would take them for times of the"
            f" event. Received: {whole.method.name!r}"
        )
    if whole.data.unlabelled and getattr(whole.method.options, "pseudo_labels", None) is None:
        raise StudyError(
            f"{source}: [data] unlabelled: only 'neural' with [method.options.pseudo_labels] learns from rows without a"
            f" label. Received: {whole.method.name!r} without"
        )
    try:
        METHODS[study.method.name].check(whole)
    except ValueError as error:
        raise StudyError(f"{source}: [method] {error}") from None
    _check_candidates(whole, source)
    return whole


def _check_candidates(study: Study, source: str) -> None:
    """Raise StudyError if the study cannot be done with one of the options that it tries."""
    if study.tuning is None:
        return
    kind = METHODS[study.method.name].Options
    known = [field.name for field in dataclasses.fields(kind)]
    for name in study.tuning.grid:
        if name not in known:
            raise StudyError(
                f"{source}: [tuning] grid: {study.method.name} has no option {name!r}. {nearest(name, known)}"
            )
    for candidate in study.tuning.candidates:
        where = f"{source} with {words(candidate)}"
        try:
            tuned(study, candidate)
        except ValidationError as error:
            raise StudyError(explain(error, kind, where, ("method", "options"))) from None
        except ValueError as error:
            raise StudyError(f"{where}: [method] {error}") from None


def _check(kind: type[Any], raw: Any, source: str, where: tuple[str, ...]) -> Any:
    try:
        text = json.dumps(raw)
    except TypeError as error:
        raise StudyError(f"{source}: dates and times are not used in a study: write a text. ({error})") from None
    try:
        # JSON, so that lists become tuples while every other conversion stays forbidden.
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise StudyError(explain(error, kind, source, where)) from None


_CHOICES = ("aggregation.strategy", "method.name")
"""Keys whose value decides which options there are: the options of another choice go when one of them changes."""


def _change(raw: dict[str, Any], key: str, text: str) -> None:
    """Set one dotted key of a parsed TOML file; a value that is not TOML is taken as text."""
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parts, last = key.split(".")
    if key in _CHOICES and isinstance(raw.get(parts[0]), dict) and raw[parts[0]].get(last) != value:
        raw[parts[0]].pop("options", None)
    if not parts or not all([*parts, last]):
        raise StudyError(f"--set expects section.key=value. Received: {key!r}")
    node = raw
    for part in parts:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise StudyError(f"--set {key}: {part!r} is a value, not a part of the study")
    node[last] = value
