"""Signing, agreement, derivation and sealing give the published answers, and refuse what they must."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from client.policy import Policy
from client.secagg_state import Masked, Member, Opened, RoundKeys, Sharing, State
from shared.errors import ProtocolError
from shared.examples import Part
from shared.messages import Contributed, Heading, Keys, Masking, Revealed, RevealRequest, Shares
from shared.secagg import keys, roster
from shared.secagg.keys import ExchangeKey, SigningKey
from shared.secagg.roster import Roster
from tests.secure import InsecureEntropy, secure_study
from tests.unit.shared.secagg import independent
from tests.unit.shared.secagg.independent import HEADING, cases, ours

WHERE = Heading(*HEADING)
A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
PRIME = 2**255 - 19

# Bernstein, https://cr.yp.to/ecdh.html ("How do I validate Curve25519 public keys?"): all 32-byte strings of these.
ORDER_EIGHT = (
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
)
LOW_ORDER = [0, 1, *(int.from_bytes(each, "little") for each in ORDER_EIGHT), PRIME - 1, PRIME, PRIME + 1]
LOW_ORDER += [number + 2**255 for number in LOW_ORDER]


def code_of(error: pytest.ExceptionInfo[ProtocolError]) -> str:
    return error.value.code


@pytest.mark.parametrize("case", cases("x25519"))
def test_x25519_multiplies_as_in_rfc_7748(case: dict[str, bytes]) -> None:
    assert case["result"] == ExchangeKey(case["scalar"]).agree(case["point"], "a")


@pytest.mark.parametrize("case", cases("diffie_hellman"), ids=["Alice", "Bob"])
def test_two_sites_agree_as_in_rfc_7748(case: dict[str, bytes]) -> None:
    key = ExchangeKey(case["scalar"])
    assert (case["public"], case["shared"]) == (key.public, key.agree(case["other"], "b"))


@pytest.mark.parametrize("case", cases("hkdf_sha256"), ids=["A.1", "A.2", "A.3"])
def test_keys_are_derived_as_in_rfc_5869(case: dict[str, bytes]) -> None:
    given = (case["secret"], case["info"], case["salt"], len(case["result"]))
    assert case["result"] == keys.derive(*given)
    assert case["result"] == independent.hkdf(*given)


@pytest.mark.parametrize("case", cases("ed25519"), ids=["1", "2", "3"])
def test_statements_are_signed_as_in_rfc_8032(case: dict[str, bytes]) -> None:
    key = SigningKey(case["secret"])
    assert (case["public"], case["signature"]) == (key.public, key.sign(case["message"]))
    keys.verify(case["public"], case["signature"], case["message"], "a")


@pytest.mark.parametrize("case", cases("aes_256_gcm"), ids=["13", "14", "16"])
def test_shares_are_sealed_as_in_the_paper_on_gcm(case: dict[str, bytes]) -> None:
    sealed = keys.seal(case["key"], case["plain"], case["associated"], lambda size: case["nonce"][:size])
    assert case["nonce"] + case["cipher"] + case["tag"] == sealed
    assert case["plain"] == keys.unseal(case["key"], sealed, case["associated"], "a")


def test_derived_keys_never_change() -> None:
    assert independent.hkdf(A, b"info", B) == ours("derive") == keys.derive(A, b"info", B)


def test_the_key_of_a_pairs_mask_never_changes() -> None:
    again = independent.hkdf(A, independent.statement("pair mask", ("a", "b")), B)
    assert again == ours("pair_mask_key") == keys.pair_mask_key(A, WHERE, B, ("a", "b"))


def test_the_key_of_a_sites_own_mask_never_changes() -> None:
    again = independent.hkdf(A, independent.statement("self mask", "a"), B)
    assert again == ours("self_mask_key") == keys.self_mask_key(A, WHERE, B, "a")


def test_the_key_of_a_seal_never_changes() -> None:
    again = independent.hkdf(A, independent.statement("seal", "a", "b"), B)
    assert again == ours("seal_key") == keys.seal_key(A, WHERE, B, "a", "b")


def test_each_direction_has_its_own_seal() -> None:
    assert keys.seal_key(A, WHERE, B, "a", "b") != keys.seal_key(A, WHERE, B, "b", "a")


def test_every_purpose_round_and_roster_has_its_own_key() -> None:
    later = Heading(*HEADING[:2], 8, 2)
    made = {keys.pair_mask_key(A, where, salt, ("a", "b")) for where in (WHERE, later) for salt in (B, C)}
    made |= {keys.self_mask_key(A, where, salt, "a") for where in (WHERE, later) for salt in (B, C)}
    made |= {keys.seal_key(A, where, salt, "a", "b") for where in (WHERE, later) for salt in (B, C)}
    assert 12 == len(made)


@pytest.mark.parametrize("number", LOW_ORDER, ids=hex)
def test_a_point_of_low_order_is_refused(number: int) -> None:
    public = number.to_bytes(32, "little")
    with pytest.raises(ProtocolError) as checked:
        keys.check_point(public, "a")
    with pytest.raises(ProtocolError) as agreed:
        ExchangeKey(A).agree(public, "a")
    assert ("bad-key", "bad-key") == (code_of(checked), code_of(agreed))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_what_has_not_32_bytes_is_no_public_key(size: int) -> None:
    public = b"\x09" * size
    with pytest.raises(ProtocolError) as checked:
        keys.check_point(public, "a")
    with pytest.raises(ProtocolError) as agreed:
        ExchangeKey(A).agree(public, "a")
    assert ("bad-key", "bad-key") == (code_of(checked), code_of(agreed))


@pytest.mark.parametrize("other", [9 + 2**255, 9 + PRIME, 9 + PRIME + 2**255], ids=["high bit", "prime", "both"])
def test_another_spelling_of_a_point_is_refused_though_it_is_the_same_point(other: int) -> None:
    """RFC 7748, section 5, processes such values as if they had been reduced: two keys would be one point."""
    public = other.to_bytes(32, "little")
    assert ExchangeKey(A).public == ExchangeKey(A).agree(public, "a")
    with pytest.raises(ProtocolError) as refused:
        keys.check_point(public, "a")
    assert refused.value.code == "bad-key"


SIGNED = SigningKey(A).sign(b"said")


@pytest.mark.parametrize(
    ("public", "signature", "said"),
    [
        pytest.param(SigningKey(A).public, SIGNED, b"saie", id="another statement"),
        pytest.param(SigningKey(B).public, SIGNED, b"said", id="another identity"),
        pytest.param(SigningKey(A).public, bytes([SIGNED[0] ^ 1]) + SIGNED[1:], b"said", id="changed"),
        pytest.param(SigningKey(A).public, SIGNED[:-1], b"said", id="cut"),
        pytest.param(SigningKey(A).public, SIGNED + b"\x00", b"said", id="longer"),
        pytest.param(SigningKey(A).public, b"", b"said", id="empty"),
        pytest.param(b"short", SIGNED, b"said", id="no key"),
    ],
)
def test_a_signature_counts_only_for_its_statement_and_identity(public: bytes, signature: bytes, said: bytes) -> None:
    keys.verify(SigningKey(A).public, SIGNED, b"said", "a")  # Now that a good one is remembered,
    for _ in range(2):  # a bad one is refused, however often it comes.
        with pytest.raises(ProtocolError) as refused:
            keys.verify(public, signature, said, "a")
        assert "bad-signature" == code_of(refused)


def sealed_by_a() -> bytes:
    return keys.seal(A, b"two shares", b"associated", InsecureEntropy(0))


def test_sealed_shares_differ_by_their_nonce_and_open_alike() -> None:
    entropy = InsecureEntropy(0)
    boxes = [keys.seal(A, b"two shares", b"associated", entropy) for _ in range(2)]
    assert boxes[0][:12] != boxes[1][:12]
    assert [b"two shares"] * 2 == [keys.unseal(A, box, b"associated", "a") for box in boxes]
    assert 12 + len(b"two shares") + 16 == len(boxes[0])


@pytest.mark.parametrize("place", range(len(b"two shares") + 28))
def test_a_seal_is_broken_by_any_changed_byte(place: int) -> None:
    box = bytearray(sealed_by_a())
    box[place] ^= 1
    with pytest.raises(ProtocolError) as refused:
        keys.unseal(A, bytes(box), b"associated", "a")
    assert "seal-broken" == code_of(refused)


@pytest.mark.parametrize(
    ("key", "box", "associated"),
    [
        pytest.param(B, sealed_by_a(), b"associated", id="another key"),
        pytest.param(A, sealed_by_a(), b"associatee", id="another statement"),
        pytest.param(A, sealed_by_a(), b"", id="no statement"),
        pytest.param(A, sealed_by_a()[:-1], b"associated", id="cut"),
        pytest.param(A, sealed_by_a()[:12], b"associated", id="a nonce alone"),
        pytest.param(A, b"", b"associated", id="empty"),
    ],
)
def test_shares_open_only_with_their_key_and_statement(key: bytes, box: bytes, associated: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        keys.unseal(key, box, associated, "a")
    assert "seal-broken" == code_of(refused)


SECRET = b"patient's secret"


@dataclass(frozen=True)
class _Holdings:
    """Everything that a site holds in a run, each of its secrets being ``SECRET`` twice."""

    keys: RoundKeys
    sharing: Sharing
    masked: Masked
    member: Member
    revealed: Revealed
    shares: Shares
    masking: Masking

    @classmethod
    def of(cls, secret: bytes) -> _Holdings:
        signing = SigningKey(secret)
        mask, seal = ExchangeKey(secret), ExchangeKey(secret[::-1])
        said: Keys = roster.keys_of("a", WHERE, (mask, seal), secret, signing)
        own = RoundKeys(said, mask, seal, secret)
        named = {"b": secret}
        sharing = Sharing(own, Roster(WHERE, (said,), 1), secret, named, named)
        masked = Masked(
            Opened(sharing, B, named), B, Part.TRAINING, True, Contributed("a", WHERE, np.zeros(1, np.uint32)), own
        )
        member = Member("a", signing, {"a": signing.public}, Policy(), secure_study(), InsecureEntropy(0))
        return cls(
            own, sharing, masked, member, Revealed("a", WHERE, named, named, named), Shares("a", WHERE, named),
            Masking(named),
        )  # fmt: skip


def test_nothing_that_a_site_holds_shows_a_secret() -> None:
    held = _Holdings.of(SECRET * 2)
    state = State(
        keys=held.keys, sharing=held.sharing, masked=held.masked, revealed=(RevealRequest(WHERE, (), ()), held.revealed)
    )
    shown = "".join(map(repr, (held, state)))
    for secret in (SECRET, SECRET[::-1]):
        assert repr(secret)[2:-1] not in shown
    assert "RoundKeys(said=Keys(site='a'" in shown
