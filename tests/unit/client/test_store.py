"""What a site keeps on its disk: all that it must remember, no secret of a round, and never half of it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client import store
from client.contributors import Sums, kept_for
from client.secagg_state import RoundKeys, Sharing, State
from client.site import SiteState, answer
from client.store import FILE, Kept
from shared import packing
from shared.errors import Refusal
from shared.examples import Part
from shared.messages import Contributed, ContributeRequest, Heading, Refused, Request, Revealed
from tests.secure import STEPS, Hospitals, powers
from tests.vectors.packed import alike

SITE = "b"


def code_of(folder: Path) -> str:
    """Return the code with which reading is refused."""
    with pytest.raises(Refusal) as caught:
        store.read(folder)
    return caught.value.code


def kept_of(request: Request, reply: Any, state: SiteState) -> Kept:
    """Return what the hospital's desk keeps of an answer."""
    packed = packing.pack(reply)
    block = np.frombuffer(packed.block, np.uint8)
    return Kept(state, packing.pack(request).digest, packed.text.decode(), block, {"1": 1})


class Keeping:
    """A transport behind which one site writes down each answer; ``seen`` gets its file and where it stands."""

    def __init__(self, made: Hospitals, folder: Path) -> None:
        self.made = made
        self._local = made.local
        self._folder = folder
        self.seen: list[tuple[str, Any, SiteState, bytes]] = []

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Any]:
        """Yield what arrives."""
        for arrival in self._local.exchange(requests, deadline_s):
            if arrival.site == SITE:
                request, state = requests[SITE], self._local.states[SITE]
                store.write(self._folder, kept_of(request, arrival.reply, state))
                self.seen.append((STEPS[type(request)], arrival.reply, state, (self._folder / FILE).read_bytes()))
            yield arrival


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Keeping:
    """A run of four sites over three masked rounds, in which a site wrote down each of its answers."""
    made = powers(4)
    keeping = Keeping(made, tmp_path_factory.mktemp("states"))
    made.run(keeping)
    return keeping


def at(run: Keeping, step: str) -> Kept:
    """Return what was kept after the last answer in a step."""
    _, reply, state, _ = next(each for each in reversed(run.seen) if each[0] == step)
    return kept_of(ContributeRequest(reply.heading, 3, 0, {}), reply, state)


def without_secrets(kept: Kept) -> Kept:
    secure = dataclasses.replace(kept.state.secure, keys=None, sharing=None, masked=None, revealed=None)
    return dataclasses.replace(kept, state=dataclasses.replace(kept.state, secure=secure))


# What is written is read again


@pytest.mark.parametrize("step", ["join", "keys", "shares", "contribute", "reveal", "end"])
def test_what_was_written_after_a_real_answer_is_read_again(run: Keeping, step: str, tmp_path: Path) -> None:
    kept = at(run, step)
    store.write(tmp_path, kept)
    assert alike(without_secrets(kept), store.read(tmp_path))


def test_a_site_remembers_with_whom_its_sums_were_made(run: Keeping, tmp_path: Path) -> None:
    store.write(tmp_path, at(run, "reveal"))
    sums = store.read(tmp_path).state.sums
    assert {(Part.TRAINING, number): frozenset("abcd") for number in (1, 2, 3)} == sums.frozen
    assert frozenset("abcd") == sums.members
    assert {Part} == {type(part) for part, _ in sums.frozen}


def test_a_site_remembers_the_sums_of_earlier_runs(tmp_path: Path) -> None:
    sums = Sums(
        frozen={kept_for(Part.TRAINING, True, 3): frozenset("ab"), kept_for(Part.HELD_OUT, False, 4): frozenset("abc")},
        earlier={kept_for(Part.TRAINING, False, 2): frozenset({frozenset("abc"), frozenset("abd")})},
        members=frozenset("abcd"),
    )
    store.write(tmp_path, Kept(SiteState(sums=sums)))
    assert sums == store.read(tmp_path).state.sums


def test_arrays_of_a_state_are_read_bit_by_bit(tmp_path: Path) -> None:
    arrays = {"b/c": np.array(np.nan), "a": np.array([[True], [False]]), "none": np.zeros((0, 2), dtype=np.float32)}
    state = SiteState("run", 7, {"m": np.arange(3)}, arrays, {"prepare": b"\1" * 32}, judged={"w": np.ones(2)})
    store.write(tmp_path, Kept(state, said="ü", block=np.arange(5, dtype=np.uint8), released={"3": 2}))
    kept = store.read(tmp_path)
    assert alike(state, kept.state)
    assert ("ü".encode(), bytes(range(5)), {"3": 2}) == (kept.reply.text, bytes(kept.reply.block), kept.released)


@pytest.mark.parametrize("step", ["join", "keys", "contribute", "reveal"])
def test_the_last_answer_is_said_again_in_the_same_bytes(run: Keeping, step: str, tmp_path: Path) -> None:
    packed = packing.pack(next(reply for name, reply, _, _ in reversed(run.seen) if name == step))
    store.write(tmp_path, at(run, step))
    said = store.read(tmp_path).reply
    assert (packed.text, bytes(packed.block)) == (said.text, bytes(said.block))


def test_nothing_kept_is_a_fresh_start(tmp_path: Path) -> None:
    assert alike(Kept(), store.read(tmp_path / "never"))


def test_a_node_that_was_started_anew_answers_no_round_a_second_time(run: Keeping, tmp_path: Path) -> None:
    """It has contributed to round 1 and lost that round's secrets, and is asked for round 1 again."""
    reply, before = next((reply, state) for step, reply, state, _ in run.seen if step == "contribute")
    store.write(tmp_path, Kept(before))
    woken = store.read(tmp_path).state
    request = ContributeRequest(reply.heading, 4, 0, {"stage": np.array(0)})
    refused, after = answer(request, woken, run.made.sites[SITE])
    assert isinstance(refused, Refused)
    assert "round-went-back" == refused.code
    assert after is woken


# Secrets


def secrets_of(state: State) -> dict[str, bytes]:
    """Return every secret of the rounds in progress: keys, seeds, agreements, and shares that were not revealed."""
    found: dict[str, bytes] = {}
    drawn = [("keys", state.keys), ("next", state.masked.next if state.masked else None)]
    sharings: list[tuple[str, Sharing | None]] = [("sharing", state.sharing)]
    if state.masked:
        opened = state.masked.opened
        sharings.append(("masked", opened.sharing))
        found |= halves("held by", opened.held)
    for name, sharing in sharings:
        if sharing:
            drawn.append((name, sharing.own))
            found |= {f"{name} agreed with {other}": agreed for other, agreed in sharing.agreed.items()}
            found |= halves(f"{name} kept", {"": sharing.kept})
    for name, keys in drawn:
        if isinstance(keys, RoundKeys):
            found |= {f"{name} mask": keys.mask.secret, f"{name} seal": keys.seal.secret, f"{name} seed": keys.seed}
    return found


def halves(about: str, held: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return both shares that stand in a row: of a seed and of a scalar."""
    return {
        f"{about} {name}, {part}": share
        for name, both in held.items()
        for part, share in (("seed", both[:33]), ("scalar", both[33:]))
    }


EXPECTED = {
    "join": set[str](),
    "keys": {"keys mask", "keys seal", "keys seed"},
    "shares": {"sharing mask", "sharing seed", "sharing agreed with a", "sharing kept , seed", "sharing kept , scalar"},
    "contribute": {
        "masked mask",
        "masked seed",
        "held by a, seed",
        "held by b, scalar",
        "masked agreed with d",
        "next seed",
    },
    "reveal": {"keys mask", "sharing seed", "sharing kept , seed", "sharing agreed with c"},
    "end": set[str](),
}
"""Some of what a site holds after its answer in a step; after a reveal, for the next round."""


@pytest.mark.parametrize("step", EXPECTED)
def test_the_file_has_no_secret_of_the_rounds_in_progress(run: Keeping, step: str) -> None:
    """Neither in raw bytes, in any order, nor in hex, nor in part."""
    found: dict[str, bytes] = {}
    for name, _, state, content in run.seen:
        if name != step:
            continue
        secrets = secrets_of(state.secure)
        found |= secrets
        text = content.lower()
        for about, secret in secrets.items():
            for form in (secret, secret[::-1], secret[:16], secret[-16:]):
                assert form not in content, about
                assert form.hex().encode() not in text, about
    assert EXPECTED[step] <= set(found)


def test_the_search_for_secrets_finds_what_is_there(run: Keeping) -> None:
    """The shares that a reveal gave away are in the answer, which is kept so that it can be said again."""
    revealed, content = next((reply, content) for step, reply, _, content in run.seen if step == "reveal")
    assert isinstance(revealed, Revealed)
    assert all(share.hex().encode() in content for share in revealed.seeds.values())


def test_a_site_between_rounds_keeps_the_keys_of_the_next_one_in_memory_only(run: Keeping) -> None:
    state, content = next((state, content) for step, _, state, content in run.seen if step == "reveal")
    sharing = state.secure.sharing
    assert sharing is not None and sharing.own.said.heading.round == 2
    assert sharing.own.seed.hex().encode() not in content
    assert sharing.own.said.seed_digest.hex().encode() not in content


def test_only_the_owner_can_read_the_file_whatever_the_umask(tmp_path: Path) -> None:
    script = """
        import os, sys, pathlib
        os.umask(int(sys.argv[2], 8))
        from client import store
        store.write(pathlib.Path(sys.argv[1]), store.Kept())
    """
    for umask in ("000", "022", "077"):
        folder = tmp_path / umask / "states" / "digest"
        child(script, str(folder), umask)
        assert (0o700, 0o600) == (folder.stat().st_mode & 0o777, (folder / FILE).stat().st_mode & 0o777)
        assert [FILE] == [path.name for path in folder.iterdir()]


# Damage


@pytest.fixture(scope="module")
def content(run: Keeping, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file after a real answer with arrays, some kilobytes."""
    folder = tmp_path_factory.mktemp("content")
    store.write(folder, at(run, "contribute"))
    return (folder / FILE).read_bytes()


def test_a_file_that_breaks_off_anywhere_is_damaged(content: bytes, tmp_path: Path) -> None:
    for length in range(len(content)):
        (tmp_path / FILE).write_bytes(content[:length])
        assert "state-damaged" == code_of(tmp_path), length


def test_one_changed_bit_anywhere_is_damage(content: bytes, tmp_path: Path) -> None:
    """Even in a number or an array that would be read as another one, such as how often a sum was released."""
    for index in range(len(content)):
        changed = bytearray(content)
        changed[index] ^= 1 << index % 8
        (tmp_path / FILE).write_bytes(changed)
        assert "state-damaged" == code_of(tmp_path), index


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content + b"\0", id="a byte more"),
        pytest.param(lambda content: content * 2, id="twice"),
        pytest.param(lambda content: b"\n" + content, id="a byte before"),
        pytest.param(lambda content: bytes(len(content)), id="zeros, as a disk leaves them after a power cut"),
        pytest.param(lambda content: content[:63] + b"\xff" * 8, id="a text of 2**64 - 1 bytes"),
        pytest.param(lambda content: content.replace(b"state 1", b"state 2"), id="another format"),
        pytest.param(lambda _content: b"{}", id="JSON"),
    ],
)
def test_anything_else_is_damaged_and_no_fresh_start(change: Any, content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(change(content))
    assert "state-damaged" == code_of(tmp_path)


def test_a_state_of_another_kind_is_damaged(tmp_path: Path) -> None:
    """Written with its right digest, as another version of this program could."""
    store.write(tmp_path, Kept())
    content = (tmp_path / FILE).read_bytes()
    packed = packing.pack(Contributed("a", Heading("run", "study", 1), np.zeros(2, dtype=np.uint32)))
    magic = content[: content.index(b"\n") + 1]
    head = magic + packed.digest + len(packed.text).to_bytes(8, "big")
    (tmp_path / FILE).write_bytes(head + packed.text + bytes(packed.block))
    assert "state-damaged" == code_of(tmp_path)


def test_a_folder_in_the_files_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert "disk" == code_of(tmp_path)


# Writing


def child(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


KILLED_BEFORE_THE_RENAME = """
    import os, pathlib, signal, sys
    from client import store
    from client.site import SiteState

    def kill(event, arguments):
        if event == "os.rename" and store.FILE in str(arguments[1]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    store.write(pathlib.Path(sys.argv[1]), store.Kept(SiteState(run="new", round=2)))
"""


def test_a_node_that_is_killed_between_writing_and_renaming_leaves_what_was_there(tmp_path: Path) -> None:
    store.write(tmp_path, Kept(SiteState(run="old", round=1)))
    assert -9 == child(KILLED_BEFORE_THE_RENAME, str(tmp_path)).returncode
    assert ("old", 1) == (store.read(tmp_path).state.run, store.read(tmp_path).state.round)
    parts = [path for path in tmp_path.iterdir() if path.name != FILE]
    assert [0o600] == [path.stat().st_mode & 0o777 for path in parts]
    store.write(tmp_path, Kept(SiteState(run="newest")))
    assert "newest" == store.read(tmp_path).state.run
    assert [FILE] == [path.name for path in tmp_path.iterdir()]


def test_a_node_that_is_killed_before_its_first_answer_was_kept_has_answered_nothing(tmp_path: Path) -> None:
    assert -9 == child(KILLED_BEFORE_THE_RENAME, str(tmp_path / "states")).returncode
    assert alike(Kept(), store.read(tmp_path / "states"))


def test_what_cannot_be_written_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    """The disk is full after 64 KiB: a limit of the process stands for it."""
    script = """
        import pathlib, resource, signal, sys
        import numpy as np
        from client import store
        from client.site import SiteState
        from shared.errors import Refusal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
        big = {"w": np.zeros(2**16)}
        try:
            store.write(pathlib.Path(sys.argv[1]), store.Kept(SiteState(run="new", memory=big)))
        except Refusal as error:
            print(error.code)
    """
    store.write(tmp_path, Kept(SiteState(run="old")))
    assert "disk\n" == child(script, str(tmp_path)).stdout
    assert "old" == store.read(tmp_path).state.run
    assert [FILE] == [path.name for path in tmp_path.iterdir()]
