"""Which line of a hash-chained record does not fit, and why: the judgement behind ``shared.chain.verify``.

Pure: lines in, a verdict out. A line that follows its neighbour has the next number and the neighbour's digest. At the
first place where one does not, the smallest change that explains it is looked for: a copy or a foreign line in between
(without it the chain closes), a line that stands elsewhere in the file, lines that are gone, and otherwise a line that
was changed. Of two neighbours that disagree the changed one is that whose digest its own successor does not name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """What counts of a line.

    n: its number; -1 where it has none.
    previous: the digest that it gives for the line before.
    digest: its own.
    """

    n: int
    previous: str
    digest: str


@dataclass(frozen=True)
class Verdict:
    """What was found.

    lines: how many complete lines the file has.
    digest: of the last complete line; noted elsewhere, it proves later that nothing before it was rewritten.
    fault: ``changed``, ``missing``, ``inserted``, ``reordered`` or ``no-head``; empty where the record is intact.
    line: the number of the first line at fault, counted in the file; of a missing one, the number it had. None where
        no line is at fault.
    why: one sentence for people.
    """

    lines: int
    digest: str
    fault: str
    line: int | None
    why: str

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.fault


def parse_line(data: bytes) -> Line:
    """Return what counts of a line's bytes, without the line end."""
    digest = hashlib.sha256(data).hexdigest()
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return Line(-1, "", digest)
    n, previous = value.get("n"), value.get("previous")
    if type(n) is not int or not isinstance(previous, str) or n < 1:
        return Line(-1, "", digest)
    return Line(n, previous, digest)


def find_fault(lines: Sequence[Line], torn: bytes, head: Line | None) -> Verdict:
    """Return the verdict over a whole record.

    lines: the beginning, which the first line follows, and then every complete line of the file.
    torn: what stands after the last line end.
    head: number and digest of the last line, as the head file says; None where there is no such file.
    """
    last = len(lines) - 1

    def verdict(fault: str, line: int | None, why: str) -> Verdict:
        return Verdict(last, lines[last].digest if last else "", fault, line, why)

    for position in range(1, last + 1):
        if not _follows(lines[position - 1], lines[position]):
            return verdict(*_explain(lines, position, head))
    if head is None:
        return verdict("no-head", None, f"The head file is missing: whether lines after line {last} are gone is open.")
    return verdict(*_compare_end(lines, torn, head))


def _follows(before: Line, line: Line) -> bool:
    return line.n == before.n + 1 and line.previous == before.digest


def _explain(lines: Sequence[Line], position: int, head: Line | None) -> tuple[str, int, str]:
    """Return fault, line and reason for the first line that does not follow the one before."""
    return (
        _in_between(lines, position, head)
        or _gone(lines, position, head)
        or ("changed", position, f"Line {position} was changed: it does not follow line {position - 1}.")
    )


def _in_between(lines: Sequence[Line], position: int, head: Line | None) -> tuple[str, int, str] | None:
    """Return the verdict where a line should not stand where it does."""
    before, line, later = lines[position - 1], lines[position], lines[position + 1 :]
    ended = head is not None and (head.n, head.digest) == (before.n, before.digest)
    if ended or any(_follows(before, other) for other in later):
        twin = next((at for at, other in enumerate(lines) if other.digest == line.digest and at != position), None)
        if twin is not None:
            return "inserted", position, f"Line {position} is a copy of line {twin}."
        if any(_follows(other, line) for other in later):
            return "reordered", position, f"Line {position} has number {line.n}: the lines stand in another order."
        return "inserted", position, f"Line {position} was inserted: without it the chain closes."
    fork = next((at for at in range(position - 1) if _follows(lines[at], line)), None)
    if fork is not None and _is_named(lines, position, head):
        return "inserted", fork + 1, f"Line {fork + 1} was inserted: the chain goes on with line {position}."
    return None


def _gone(lines: Sequence[Line], position: int, head: Line | None) -> tuple[str, int, str] | None:
    """Return the verdict where the line is as it was written, and what should stand before it is not."""
    line, after = lines[position], lines[position + 1 : position + 2]
    named = _is_named(lines, position, head)
    if line.n > position and (named or not after or after[0].n != position + 1):
        gone = f"Line {position} is" if line.n == position + 1 else f"Lines {position} to {line.n - 1} are"
        return "missing", position, f"{gone} missing: line {line.n} stands after line {position - 1}."
    if line.n == position and named and position > 1:
        return "changed", position - 1, f"Line {position - 1} was changed: its digest is not what line {position} says."
    return None


def _is_named(lines: Sequence[Line], position: int, head: Line | None) -> bool:
    """Whether a line is as it was written: the next one, or the head where it is the last, has its digest."""
    if position + 1 < len(lines):
        return lines[position + 1].previous == lines[position].digest
    return head is not None and head.digest == lines[position].digest


def _compare_end(lines: Sequence[Line], torn: bytes, head: Line) -> tuple[str, int | None, str]:
    """Return fault, line and reason for a record whose lines follow each other."""
    last = len(lines) - 1
    if torn and hashlib.sha256(torn).hexdigest() == head.digest:
        return "changed", last + 1, f"Line {last + 1} was changed: its line end is gone."
    if last < head.n:
        return "missing", last + 1, f"Line {last + 1} is missing: the record had {head.n} lines."
    if lines[head.n].digest != head.digest:
        return "changed", head.n, f"Line {head.n} was changed, or lines before it: the head file has another digest."
    if last > head.n + 1 or (torn and last > head.n):
        return "inserted", head.n + 1, f"Line {head.n + 1} was added by something else: the head has {head.n} lines."
    digest = lines[last].digest[:16] if last else "none"
    end = " The last append was interrupted; the next one mends it." if torn or last > head.n else ""
    return "", None, f"{last} lines, each follows the one before. Digest of the last: {digest}.{end}"
