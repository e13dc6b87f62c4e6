"""The hospital's own file ``site.toml``: where its data are, how they map to a study's contract, and its policy.

Parsed once into frozen dataclasses with a closed key set, as studies are; a value that exists is valid by itself.
Whether a mapping fits a study is said by ``client/data/mapping.py``. The file is never sent anywhere.

One ``[data.NAME]`` part is one set of data with its mapping. A study uses the part that is named as the study, or the
only one; otherwise the steward says which. What its patients spend of the ``[budget]`` is kept in a ledger of the same
name, or of the one that ``ledger`` says: parts about the same patients share one.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from client.budget import Budget
from client.policy import Policy
from shared import files
from shared.errors import SettingsError, nearest
from shared.schema import CLOSED, Cell
from shared.validation import explain

FILE = "site.toml"
_TEMPLATE = Path(__file__).parent / "templates" / FILE

Days = Annotated[int, Field(ge=1, le=36_500)]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Conversion:
    """The study's value is ``factor`` times the hospital's value, plus ``offset``."""

    factor: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.factor == 0:
            raise ValueError("factor must not be 0: every value would be the same")


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Choice:
    """A column that says which patients are in or out.

    column: the hospital's name of it.
    values: its cells that count, compared without regard to case.
    """

    column: str
    values: Any

    def __post_init__(self) -> None:
        # Checked here, and without saying what was received: a list of opted-out patients may stand in the file.
        entries = self.values
        if not isinstance(entries, (list, tuple)) or not entries:
            raise ValueError("values: expected a list of at least one value")
        if not all(isinstance(entry, (str, int, float)) for entry in entries):
            raise ValueError("values: expected texts and numbers")
        object.__setattr__(self, "values", tuple(entries))

    def __repr__(self) -> str:
        return f"Choice(column={self.column!r}, {len(self.values)} values)"


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class DataSet:
    """One ``[data.NAME]`` part.

    path: of a CSV or Parquet table, an image folder or an .npz archive; relative to the folder of ``site.toml``.
    columns: the hospital's column name of a contract column, where they differ.
    units: the hospital's unit of a contract column, where they differ: ``kPa``, or ``mmol/l of cholesterol``.
    conversions: how a contract column's values are computed, where no unit of the table says it.
    codes: for a contract column, the contract's level of each of the hospital's codes.
    opt_out: patients to leave out; consent: patients to use, and no others. At most one of the two.
    ledger: of the privacy budget that its patients share with those of other parts; None for one of its own, which has
        the part's name.
    """

    path: Annotated[str, Field(min_length=1)]
    ledger: Annotated[str, Field(min_length=1)] | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    units: dict[str, str] = Field(default_factory=dict)
    conversions: dict[str, Conversion] = Field(default_factory=dict)
    codes: dict[str, dict[str, Cell]] = Field(default_factory=dict)
    opt_out: Choice | None = None
    consent: Choice | None = None

    @field_validator("opt_out", "consent", mode="before")
    @classmethod
    def _a_part(cls, value: Any) -> Any:
        """Check the form first, and without saying what was received, as in ``Choice``."""
        if value is not None and not isinstance(value, (dict, Choice)):
            raise ValueError("expected a part with column and values")
        return value

    def __post_init__(self) -> None:
        if self.opt_out and self.consent:
            raise ValueError("opt_out or consent, not both: either some patients are left out, or only some are used")
        twice = sorted(set(self.units) & set(self.conversions))
        if twice:
            raise ValueError(f"{twice[0]}: a unit or a conversion, not both")
        sources = list(self.columns.values())
        again = sorted({name for name in sources if sources.count(name) > 1})
        if again:
            raise ValueError(f"columns: {again[0]!r} stands for two columns of the study")

    def at(self, folder: Path) -> Path:
        """Return where the data are.

        folder: the hospital's, with ``site.toml`` in it.
        """
        return folder / self.path


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Network:
    """The ``[network]`` part.

    proxy: the hospital's outgoing proxy, ``http://HOST:PORT``; None for a direct connection.
    """

    proxy: str | None = None

    def __post_init__(self) -> None:
        if self.proxy is None:
            return
        try:
            parts = urlsplit(self.proxy)
            named = bool(parts.hostname and parts.port)
        except ValueError:
            raise ValueError("proxy: expected http://HOST:PORT") from None
        if parts.username is not None or parts.password is not None:
            raise ValueError("proxy: expected no user or password here: secrets do not belong into site.toml")
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in ("http", "https") or not named or rest:
            raise ValueError(f"proxy: expected http://HOST:PORT. Received: {self.proxy!r}")


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Retention:
    """The ``[retention]`` part: after how many days something is deleted.

    memory_days: what a method remembers at this hospital of a study, after the study's last run.
    replies_days: stored replies, after the study's last run.
    logs_days: the node's logs; the record ``audit.jsonl`` is kept.
    """

    memory_days: Days = 30
    replies_days: Days = 30
    logs_days: Days = 90


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Report:
    """The ``[report]`` part: what the hospital's own report of a run has.

    pictures: whether it shows a few of the hospital's own held-out images, in a study of images.
    """

    pictures: bool = True


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Settings:
    """One hospital's ``site.toml``. Made by ``load`` and ``parse``."""

    data: dict[str, DataSet] = Field(default_factory=dict)
    network: Network = Field(default_factory=Network)
    retention: Retention = Field(default_factory=Retention)
    report: Report = Field(default_factory=Report)
    policy: Policy = Field(default_factory=Policy)
    budget: Budget | None = None

    def ledger_of(self, dataset: str) -> str:
        """Return the name of the ledger that a part ``[data.NAME]`` spends from; a part that is gone has its own."""
        part = self.data.get(dataset)
        return (part and part.ledger) or dataset


def template() -> str:
    """Return the commented file that a new hospital starts from."""
    return _TEMPLATE.read_text(encoding="utf-8")


def write_template(folder: Path) -> None:
    """Write the commented file into a hospital's folder, unless there is one already.

    Raises: SettingsError if it cannot be written.
    """
    path = folder / FILE
    try:
        if not path.exists():
            files.replace_text(path, template(), files.SECRET_MODE)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error.strerror}.") from None


def load(folder: Path) -> Settings:
    """Read the ``site.toml`` of a hospital's folder.

    Raises: SettingsError if it cannot be read, or says something that cannot be.
    """
    path = folder / FILE
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file. `consilium-client init` makes a hospital's folder.") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: expected UTF-8 text. Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}.") from None
    settings = parse(raw, str(path))
    _check_ledgers(settings, folder, str(path))
    return settings


def _check_ledgers(settings: Settings, folder: Path, source: str) -> None:
    """Raise SettingsError where the same file has two ledgers: its patients' budget could be spent twice."""
    if settings.budget is None:
        return
    first: dict[Path, str] = {}
    for name, dataset in settings.data.items():
        other = first.setdefault(dataset.at(folder).resolve(), name)
        if settings.ledger_of(name) != (ledger := settings.ledger_of(other)):
            raise SettingsError(
                f"{source}: [data.{other}] and [data.{name}] are the same file, so their patients have one budget."
                f" Write ledger = {json.dumps(ledger)} into [data.{name}]."
            )


def parse(raw: Mapping[str, Any], source: str) -> Settings:
    """Check the parts of a ``site.toml`` and return them.

    raw: the parts by name, as TOML gives them.
    source: what errors call the file.

    Raises: SettingsError naming source, key, what was expected, what was received, and the nearest known key.
    """
    try:
        text = json.dumps(raw)
    except TypeError:
        raise SettingsError(f"{source}: dates and times are not used here: write a text.") from None
    try:
        # JSON, so that lists become tuples while every other conversion stays forbidden.
        settings: Settings = TypeAdapter(Settings).validate_json(text)
    except ValidationError as error:
        raise SettingsError(explain(error, Settings, source)) from None
    return settings


def choose(settings: Settings, study: str, wanted: str | None, source: str) -> tuple[str, DataSet]:
    """Return the name and the data set that a study is about.

    study: its name.
    wanted: the data set that the steward named, or None.
    source: what errors call the file.

    Raises: SettingsError if there is none, or if it is not clear which.
    """
    if not settings.data:
        raise SettingsError(f"{source}: no data yet. Fill in a part [data.NAME]: the comments in the file say how.")
    if wanted is not None and wanted not in settings.data:
        raise SettingsError(f"{source}: no part [data.{wanted}]. {nearest(wanted, settings.data)}")
    name = wanted or (study if study in settings.data else next(iter(settings.data)))
    if wanted is None and name != study and len(settings.data) > 1:
        raise SettingsError(
            f"{source}: which data are for the study {study}? Name one with --data: {', '.join(sorted(settings.data))}."
        )
    return name, settings.data[name]
