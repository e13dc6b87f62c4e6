"""Every rule that a site keeps under secure aggregation, each broken by one change to an honest conversation."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.policy import Policy
from client.secagg_state import State
from client.site import Site, SiteState, answer
from shared.errors import RunAbandoned
from shared.messages import (
    Contributed,
    Ended,
    EndRequest,
    Heading,
    Joined,
    JoinRequest,
    Keys,
    KeysRequest,
    Refused,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Shares,
    SharesRequest,
)
from shared.secagg import roster
from shared.secagg.keys import SigningKey
from tests.secure import Hospitals, Loss, LossyTransport, RecordingTransport, Step, powers, secure_study
from tests.vectors import bad
from tests.vectors.messages import FOLDER, files, from_json

TALK = bad.talk()
SITE = TALK.site()
FILES = sorted(FOLDER.glob("bad_*.json"))
PROTOCOL = Path(__file__).parents[3] / "docs" / "protocol.md"

TESTED_BELOW = {"too-many-members", "bad-threshold"}
"""Codes that one changed message of the usual conversation cannot give."""

TESTED_ELSEWHERE = {
    *("contributors-changed", "members-changed"),  # test_contributors.py
    *("settled-changed", "bad-preparation", "not-finite", "beyond-bound"),  # test_site.py
    *("method-not-allowed", "too-few-patients", "too-few-of-a-class", "too-many-parameters"),  # test_policy.py
    *("data-dependent-subsets", "subset-too-small"),  # test_site.py
    "nearly-the-same-patients",  # test_differencing.py
    *("not-private", "too-few-for-noise"),  # test_site_private.py
    *("bad-trees", "bad-bins"),  # test_trees.py
}


def code_of(request: Request, before: SiteState, good: Request, site: Site = SITE) -> str:
    """Return the code of a refusal, after which the site stands where it stood and answers the honest request."""
    reply, after = answer(request, before, site)
    assert isinstance(reply, Refused)
    assert after is before
    honest, _ = answer(good, after, site)
    assert not isinstance(honest, Refused)
    return reply.code


def recorded(made: Hospitals, *losses: Loss) -> RecordingTransport:
    recording = RecordingTransport(LossyTransport(made.local, losses), made.local.states)
    made.run(recording)
    return recording


def reply_to(step: Step, round_number: int) -> Reply:
    return TALK.recorded.at(step, round_number, bad.SITE).replies[0]


# Refusals


@pytest.mark.parametrize("name", bad.messages())
def test_a_message_with_one_thing_changed_is_refused_and_changes_nothing(name: str) -> None:
    message = bad.messages()[name]
    code = code_of(message.request, TALK.before(message.state), TALK.request(message.state))
    assert message.code == code


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_message_from_a_file_is_refused_with_its_code(path: Path) -> None:
    content = json.loads(path.read_bytes())
    request = from_json(content["step"], content["request"])
    state = content["site_state"]
    assert content["code"] == code_of(request, TALK.before(state), TALK.request(state))


@pytest.mark.parametrize("state", bad.ASKED)
def test_the_honest_message_from_a_file_is_answered(state: bad.Stands) -> None:
    content = json.loads((FOLDER / f"good_{state}.json").read_bytes())
    reply, _ = answer(from_json(content["step"], content["request"]), TALK.before(state), SITE)
    assert isinstance(
        reply, {"keys": Keys, "shares": Shares, "contribute": Contributed, "reveal": Revealed}[content["step"]]
    )


def test_the_files_are_those_that_are_written() -> None:
    made = {
        path.name: json.loads(path.read_bytes()) for pattern in ("bad_*", "good_*") for path in FOLDER.glob(pattern)
    }
    assert made == files()


@pytest.mark.parametrize(
    ("old", "new"), [('"round": 1', '"round": "1"'), ('"mask"', '"more": 1, "mask"'), ('"seal": "', '"seal": "A')]
)
def test_a_file_with_anything_else_than_its_message_is_not_read(old: str, new: str) -> None:
    text = (FOLDER / "good_keyed.json").read_text()
    with pytest.raises(ValueError, match="validation error"):
        from_json("shares", json.loads(text.replace(old, new))["request"])


def test_every_code_of_a_bad_message_is_in_the_protocols_tables_and_the_other_way_round() -> None:
    section = PROTOCOL.read_text().split("## The site")[1].split("\n## ")[0]
    rows = [line.split("|")[-2] for line in section.splitlines() if line.startswith("|")]
    described = {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}
    given = {message.code for message in bad.messages().values()}
    assert described == given | TESTED_BELOW | TESTED_ELSEWHERE


def test_two_sites_are_no_run_whatever_their_policies_say() -> None:
    study = secure_study(aggregation__min_sites=1)
    made = powers(2, study)
    member = made.member("a")
    assert member.policy.min_sites == 1
    assert member.min_sites == 3
    said, state = answer(JoinRequest(Heading("", study.digest, 0)), SiteState(), made.sites["a"])
    assert isinstance(said, Joined)
    roll = (said, roster.joined("b", said.heading, bytes(32), (1, False), made.signing("b")))
    run = roster.run_id(study.digest, roll, made.identities)
    reply, _ = answer(KeysRequest(Heading(run, study.digest, 1), roll), state, made.sites["a"])
    assert isinstance(reply, Refused)
    assert reply.code == "too-few-members"


def test_a_run_of_a_hundred_and_one_is_refused() -> None:
    said = TALK.request("joined").roll
    signing = SigningKey(bytes(32))
    many = [roster.joined(f"site {number}", said[0].heading, bytes(32), (3, False), signing) for number in range(96)]
    request = replace(TALK.request("joined"), roll=(*said, *many))
    assert "too-many-members" == code_of(request, TALK.before("joined"), TALK.request("joined"))


def test_fewer_holders_than_the_studys_threshold_are_refused() -> None:
    study = secure_study(aggregation__threshold=4)
    made = powers(5, study)
    asked = recorded(made).at("shares", 1, "b")
    assert isinstance(asked.request, SharesRequest)
    request = replace(asked.request, keys=asked.request.keys[:3])
    assert "bad-threshold" == code_of(request, asked.before, asked.request, made.sites["b"])


def with_rules(made: Hospitals, name: str, **rules: Any) -> Policy:
    """A simulated hospital's policy with rules of its own."""
    return replace(made.member(name).policy, **rules)


def test_the_strictest_hospitals_min_sites_bind_every_site_of_the_run() -> None:
    """Four of five could remove the masks of a's words without asking a, if its rule were its own business."""
    made = powers(5)
    strict = replace(made.sites["a"], member=replace(made.member("a"), policy=with_rules(made, "a", min_sites=5)))
    made.local.sites["a"] = made.sites["a"] = strict
    recording = recorded(made)
    assert {state.secure.min_sites for state in made.local.states.values()} <= {3, 5}
    asked = recording.at("reveal", 1, "b")
    assert isinstance(asked.request, RevealRequest)
    assert asked.before.secure.min_sites == 5
    request = replace(asked.request, survivors=bad.without(asked.request.survivors, "e"), dropped=("e",))
    assert "below-threshold" == code_of(request, asked.before, asked.request, made.sites["b"])


def test_exact_sums_lose_a_site_only_if_every_hospital_of_the_run_allows_it() -> None:
    made = powers(5, secure_study(simulation__contributors_may_shrink=True), exact=True)
    strict = replace(made.sites["e"], member=replace(made.member("e"), policy=with_rules(made, "e", shrinking=False)))
    made.local.sites["e"] = made.sites["e"] = strict
    with pytest.raises(RunAbandoned, match="contributors-changed"):
        made.run(LossyTransport(made.local, [Loss("e", 2, "contribute")]))


def test_a_site_that_said_nothing_has_no_nonce_in_any_run() -> None:
    reply, _ = answer(TALK.request("joined"), SiteState(), SITE)
    assert isinstance(reply, Refused)
    assert reply.code == "not-my-nonce"


def test_a_bare_sum_is_refused_where_the_policy_allows_none() -> None:
    """The study says that it is not secure; the hospital's policy decides."""
    made = powers(3, secure_study(aggregation__secure=False))
    request = TALK.request("shared")
    request = replace(request, heading=Heading("run", made.study.digest, 1), masking=None)
    careful = replace(made.sites["b"], member=replace(made.member("b"), policy=Policy(unmasked=False)))
    reply, after = answer(request, SiteState(), careful)
    assert isinstance(reply, Refused)
    assert (reply.code, after.round) == ("unmasked", 0)
    assert isinstance(answer(request, SiteState(), made.sites["b"])[0], Contributed)


def test_the_last_round_announces_no_keys_and_shares_none() -> None:
    last = reply_to("contribute", 3)
    assert isinstance(last, Contributed)
    assert last.next_keys is None
    asked = TALK.recorded.at("reveal", 3, bad.SITE)
    # The keys are of another round, but the site has none at all: it says so first.
    assert isinstance(asked.request, RevealRequest)
    request = replace(asked.request, next_keys=TALK.request("contributed").next_keys)
    assert "no-keys" == code_of(request, asked.before, asked.request)


# Stored answers


@pytest.mark.parametrize(
    ("step", "round_number"), [("keys", 1), ("shares", 1), ("contribute", 1), ("reveal", 1), ("contribute", 3)]
)
def test_the_same_request_again_gets_the_same_stored_answer(step: Step, round_number: int) -> None:
    asked = TALK.recorded.at(step, round_number, bad.SITE)
    first, state = answer(asked.request, asked.before, SITE)
    again, after = answer(asked.request, state, SITE)
    assert content(again) == content(first)
    assert content(after) == content(state)


def content(value: Any) -> Any:
    """Return a message or a state as values that compare."""
    if dataclasses.is_dataclass(value):
        return [content(each) for each in vars(value).values()]
    if isinstance(value, Mapping):
        return {name: content(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [content(each) for each in value]
    return value.tobytes() if isinstance(value, np.ndarray) else value


def test_words_are_not_computed_a_second_time() -> None:
    asked = TALK.recorded.at("contribute", 1, bad.SITE)
    first, state = answer(asked.request, asked.before, SITE)
    changed = replace(SITE, method=None)  # type: ignore[arg-type]  # whatever asks it raises
    again, _ = answer(asked.request, state, changed)
    assert isinstance(first, Contributed)
    assert isinstance(again, Contributed)
    assert first.words.tobytes() == again.words.tobytes()


# Rounds go forwards


def test_keys_of_a_newer_attempt_replace_those_of_an_older_one() -> None:
    good = TALK.request("joined")
    first, state = answer(good, TALK.before("joined"), SITE)
    second, state = answer(bad.headed(good, attempt=2), state, SITE)
    assert isinstance(first, Keys)
    assert isinstance(second, Keys)
    assert not {first.mask, first.seal, first.seed_digest} & {second.mask, second.seal, second.seed_digest}
    assert "round-went-back" == code_of(good, state, bad.headed(good, attempt=3))


def test_a_round_may_be_left_out_but_not_made_up_for() -> None:
    losses = (Loss("b", 2, "keys"), Loss("b", 1, "reveal"))
    made = powers(5)
    record = recorded(made, *losses)
    asked = record.at("keys", 3, "b")
    assert asked.before.secure.last == 1
    skipped = record.at("keys", 2, "a").request
    _, state = answer(asked.request, asked.before, made.sites["b"])
    assert "round-went-back" == code_of(skipped, state, asked.request, made.sites["b"])


def test_a_state_of_the_run_before_may_be_asked_again_in_a_new_run() -> None:
    made = powers(3)
    first, second = recorded(made), recorded(made)
    assert first.at("contribute", 1, "b").request.heading.run != second.at("contribute", 1, "b").request.heading.run
    assert isinstance(second.at("contribute", 1, "b").replies[0], Contributed)


# Secrets are forgotten


def values_in(value: Any) -> Iterator[bytes]:
    """Yield every byte string and every whole number, as 32 bytes, that a value holds, however deep."""
    match value:
        case bytes():
            yield value
        case np.ndarray():
            yield value.tobytes()
        case str() | None | float():
            pass
        case int():
            yield (value % 2**256).to_bytes(32, "big")
        case Mapping():
            for name, each in value.items():
                yield from values_in(name)
                yield from values_in(each)
        case tuple() | frozenset() | list() | set():
            for each in value:
                yield from values_in(each)
        case _ if hasattr(value, "__dict__"):
            yield from values_in(vars(value))


def holds(state: SiteState, secret: bytes) -> bool:
    return any(secret in value for value in values_in(state))


def secrets_of(state: SiteState) -> dict[str, bytes]:
    """Return what a site that is asked to contribute must not have any more after the reveal."""
    sharing = state.secure.sharing
    assert sharing is not None
    own = {"seed": sharing.own.seed, "mask": sharing.own.mask.secret, "seal": sharing.own.seal.secret}
    return own | {f"agreed with {name}": agreed for name, agreed in sharing.agreed.items()}


def test_a_rounds_secrets_are_held_until_the_reveal_and_then_gone() -> None:
    for round_number in (1, 2, 3):
        secrets = secrets_of(TALK.recorded.at("contribute", round_number, bad.SITE).before)
        asked = TALK.recorded.at("reveal", round_number, bad.SITE)
        assert all(holds(asked.before, secret) for secret in secrets.values())
        _, after = answer(asked.request, asked.before, SITE)
        assert [name for name, secret in secrets.items() if holds(after, secret)] == []


def test_after_the_reveal_no_share_is_left_but_those_that_were_given() -> None:
    asked = TALK.recorded.at("reveal", 1, bad.SITE)
    masked = asked.before.secure.masked
    assert masked is not None
    _, after = answer(asked.request, asked.before, SITE)
    scalars = [shares[33:] for shares in masked.opened.held.values()]
    assert all(holds(asked.before, share) for share in scalars)
    assert not any(holds(after, share) for share in scalars)


def test_a_new_set_up_forgets_the_secrets_of_the_one_before() -> None:
    before = TALK.before("shared")
    _, after = answer(bad.headed(TALK.request("joined"), attempt=2), before, SITE)
    assert [name for name, secret in secrets_of(before).items() if holds(after, secret)] == []


@pytest.mark.parametrize("state", ["keyed", "shared", "contributed", "revealed"])
def test_at_the_end_of_a_run_nothing_of_it_is_left(state: bad.Stands) -> None:
    before = TALK.before(state)
    good = TALK.request(state)
    reply, after = answer(EndRequest(good.heading), before, SITE)
    assert isinstance(reply, Ended)
    assert vars(after.secure) == vars(State())
    assert "not-my-nonce" == answer(TALK.request("joined"), after, SITE)[0].code  # type: ignore[union-attr]


def test_secrets_do_not_show_where_a_state_or_a_message_is_printed() -> None:
    before = TALK.before("contributed")
    shown = f"{before!r} {TALK.before('shared')!r} {reply_to('reveal', 1)!r} {SITE.member!r}"
    sharing = TALK.before("shared").secure.sharing
    assert sharing is not None
    hidden = [*secrets_of(TALK.before("shared")).values(), sharing.kept, SITE.member.signing.secret]
    assert not any(repr(secret)[2:-1] in shown or secret.hex() in shown for secret in hidden)


def test_keys_that_were_announced_with_words_are_not_drawn_again_for_the_same_round() -> None:
    sent = reply_to("contribute", 1)
    assert isinstance(sent, Contributed)
    assert sent.next_keys is not None
    roll = TALK.request("joined").roll
    reply, _ = answer(KeysRequest(sent.next_keys.heading, roll), TALK.before("contributed"), SITE)
    assert sent.next_keys == reply
