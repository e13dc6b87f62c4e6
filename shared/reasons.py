"""Reason codes in people's words: what each means, and what to do about those that somebody can do something about.

A code is a short stable word that travels between the halves (``shared.errors.Refusal``); its hint and this page's
sentences are for people, and neither says anything about a patient.
"""

from __future__ import annotations

from collections.abc import Mapping

CODE_MEANINGS: dict[str, str] = {
    "no-reply": "the hospital did not answer",
    "offline": "the hospital's node was not connected when the run began",
    "late": "the answer came after the deadline",
    "not-asked": "the hospital was not asked: it did not join the run, or is out of its exact sums since it was lost",
    "stale-reply": "an answer to an earlier question arrived; it was ignored",
    "replied-twice": "the same answer came twice; it was counted once",
    "unknown-site": "an answer came under a name that nobody had asked",
    "wrong-entries": "the answer did not hold the agreed parts",
    "wrong-shape": "the answer had another size than agreed",
    "wrong-type": "the answer was not made of the agreed fixed-point words",
    "not-finite": "the contribution held infinities or undefined numbers",
    "beyond-bound": "the contribution was larger than the method allows",
    "state-out-of-bounds": "the hospital refused a model outside the method's bounds",
    "another-study": "the hospital refused: it approved another study than the one it was asked for",
    "beyond-plan": "the hospital refused: the study plans fewer sums",
    "round-went-back": "the hospital refused to answer an earlier round again",
    "study-error": "the hospital could not carry out what the study asks; its log says more",
    "internal-error": "an error inside the hospital's software; only its own log says more",
    # Between machines: the approval, the code, the hospital's disk.
    "not-approved": "the hospital has not approved this study",
    "being-approved": "the hospital was approving or withdrawing the study at that moment",
    "withdrawn": "the hospital has taken back its approval of this study",
    "code-changed": "the hospital refused: its code is not the one under which it approved the study",
    "another-code": "the hospital runs other code than the aggregator",
    "another-identity": "the hospital says that it has another identity than the one that was enrolled",
    "protocol-version": "the hospital and the aggregator speak different versions of the protocol",
    "runs-used-up": "the hospital refused: this sum was released as often as it had approved",
    "cohort-changed": "the hospital refused: its frozen cohort is not the one that it approved",
    "state-damaged": "the hospital refused: what its node remembers of the study cannot be read",
    "disk": "the hospital refused: its node cannot read or write its disk",
    # Privacy: the hospital's own ledger.
    "no-budget": "the hospital refused: it has set no privacy budget for studies with noise",
    "budget-exhausted": "the hospital refused: its privacy budget does not cover this sum",
    "ledger-damaged": "the hospital refused: its ledger of what was spent of its privacy budget is not as it was left",
    "patients-damaged": "the hospital refused: what its node remembers of patients behind earlier sums cannot be read",
    # The hospital's own policy.
    "method-not-allowed": "the hospital's policy does not allow the study's method",
    "too-few-patients": "the hospital refused: too few patients of its own would be behind a sum",
    "too-few-of-a-class": "the hospital refused: it has too few patients of some class to train on",
    "too-many-parameters": "the hospital refused: the model has too many numbers for its patients",
    "nearly-the-same-patients": "the hospital refused: an earlier sum was over nearly the same patients of its own",
    "data-dependent-subsets": "the hospital's policy allows no sums over subsets that the data choose",
    "subset-too-small": "the hospital refused: a sum would have been over a subset of too few of its patients",
    # Secure aggregation: who takes part.
    "unmasked": "the hospital refused to send its part without masks",
    "not-my-nonce": "the hospital refused: it did not join this run just now",
    "wrong-run": "the hospital refused: the run's number does not follow from its members",
    "unknown-run": "the hospital refused: it has not entered this run",
    "not-pinned": "the hospital has not approved somebody who takes part, or was not approved itself by another",
    "bad-nonce": "the random number that opens a run had the wrong length",
    "bad-signature": "a signature was not that of the hospital it was said to be from",
    "repeated-member": "a hospital was named twice",
    "too-few-members": "too few hospitals to hide one's part in their sum",
    "too-many-members": "more hospitals than secure aggregation serves",
    "bad-threshold": "the number of hospitals needed to remove the masks is not one that keeps them safe",
    # Secure aggregation: keys and shares.
    "no-keys": "the hospital refused: it announced no keys for this round",
    "stale-keys": "keys of another round were handed out",
    "bad-key": "a public key was one that gives no secret",
    "repeated-key": "the same key was announced twice",
    "own-key-changed": "the hospital refused: its own key had been replaced or left out",
    "already-shared": "the hospital refused to share one round's secrets among others than before",
    "missing-shares": "the answer did not hold exactly the shares that were asked for",
    "not-shared": "the hospital refused: it had shared no secrets for this round",
    "not-a-holder": "the hospital refused a share from somebody who takes no part in the round",
    "seal-broken": "the hospital could not open a share that was sealed to it",
    "bad-share": "a share was not a valid one",
    # Secure aggregation: the sum, and removing its masks.
    "another-scale": "the hospital refused: it was asked to scale its part for another number of hospitals",
    "already-answered": "the hospital refused to answer the same round a second time with other words",
    "state-answered": "the hospital refused to answer for the same model twice",
    "no-receipt": "the hospital signed no receipt for its contribution",
    "stale-receipt": "a receipt was for another round",
    "other-maskers": "hospitals had been told of different partners, so their masks do not cancel",
    "another-state": "hospitals had been sent different models in one round",
    "below-threshold": "the hospital refused: too few hospitals were left for a sum",
    "contributors-changed": "the hospital refused: two sums over different hospitals could be subtracted",
    "members-changed": "the hospital refused: an earlier run over the same patients had other members",
    "settled-changed": "the hospital refused: a finished stage, such as the preparation, was not as before",
    "bad-preparation": "the hospital refused: scales and means that no sums over the declared ranges give",
    "bad-bins": "the hospital refused: edges of bins that the columns' ranges do not give",
    "bad-trees": "the hospital refused: what it was sent are no trees of this study",
    "bad-state": "the hospital refused: what it was sent is no state of this study",
    "not-private": "the hospital refused: the study promises privacy, and this sum would have had no noise",
    "too-few-for-noise": "the hospital refused: with so many colluding hospitals, no honest noise may be in a sum",
    "malformed": "the answer could not be read",
    "not-a-sum": "the sum was larger than so many contributions can make it",
    "nothing-to-reveal": "the hospital refused to remove masks: it was not part of this sum",
    "already-revealed": "the hospital refused to remove the masks of one round twice",
    "lists-overlap": "the hospital refused: a hospital was listed as counted and as lost",
    "lists-incomplete": "the hospital refused: some who masked were listed neither as counted nor as lost",
    "listed-as-dropped": "the hospital refused: it contributed, and was listed as lost",
    "own-receipt-changed": "the hospital refused: its own receipt had been replaced or left out",
    "wrong-shares": "the shares it gave did not fit the others'; the masks were removed without them",
}
"""What each reason code means, for whoever reads the report."""

_SAME_VERSION = "Install the same version of Consilium at the hospital and at the aggregator"
_APPROVE = "consilium-client approve"

CODE_ADVICE: dict[str, str] = {
    "no-reply": "At the hospital, `consilium-client status` says whether its node is running and connected.",
    "offline": "At the hospital, `consilium-client start` checks the connection and says what is wrong with it.",
    "late": "If it comes back, plan a longer `deadline_s` in the study, or a faster machine or line at the hospital.",
    "not-approved": f"The hospital approves the study with the very file of this run: `{_APPROVE}`.",
    "being-approved": "Begin the run again once the hospital is done.",
    "withdrawn": f"Ask the hospital why. It can approve the study again: `{_APPROVE}`.",
    "code-changed": f"After an update of its code, the hospital approves the study again: `{_APPROVE}`.",
    "another-code": f"{_SAME_VERSION}; then the hospital approves the study again: `{_APPROVE}`.",
    "another-identity": "Compare the fingerprint with the hospital. If it drew new keys, revoke it and enrol it anew.",
    "protocol-version": f"{_SAME_VERSION}.",
    "runs-used-up": f"The hospital approves the study again, for more runs: `{_APPROVE}`.",
    "cohort-changed": f"The hospital approves the study again: `{_APPROVE}`.",
    "state-damaged": f"The hospital approves the study again: `{_APPROVE}`.",
    "patients-damaged": "Bring the folder `patients` of the hospital's folder back from a backup.",
    "method-not-allowed": "The hospital decides: `methods` in its `site.toml`.",
    "too-few-patients": "The hospital decides, by the policy in its `site.toml`. Or run the study without it.",
    "too-few-of-a-class": "The hospital decides, by the policy in its `site.toml`. Or run the study without it.",
    "too-many-parameters": "Choose a smaller model, or run the study without the hospital.",
    "nearly-the-same-patients": "The hospital approves the study with the patients of before, or with many others.",
    "data-dependent-subsets": (
        "The hospital decides: `data_dependent_subsets = true` in `[policy]` of its `site.toml` lets it take part."
    ),
    "subset-too-small": (
        "The hospital decides, by `min_subset_patients` in its `site.toml`. Or the study asks for larger subsets,"
        " where its method has an option of that name."
    ),
    "disk": "Make room on the hospital's disk, and let its node write to the hospital's folder.",
    "no-budget": "The hospital decides: it can write a `[budget]` into its site.toml.",
    "budget-exhausted": "Plan more noise or fewer rounds: `consilium-client ledger` tells the hospital what is left.",
    "ledger-damaged": "The hospital sees with `consilium-client ledger` which line it is, and brings the ledger back.",
    "malformed": f"{_SAME_VERSION}. If they are the same, look for what changes messages on their way.",
    "bad-signature": "Somebody else may have answered in the hospital's name: compare its fingerprint over the phone.",
    "not-pinned": f"Every hospital approves the study again with the newest roster: `{_APPROVE} --roster ROSTER.json`.",
    "members-changed": f"Run it with the members of before, or every hospital approves the study again: `{_APPROVE}`.",
}
"""What to do, for the codes about which a hospital or the coordinator can do something."""


def code_meaning(code: str) -> str:
    """Return the sentence for a reason code, or one that points to the hospital's log."""
    return CODE_MEANINGS.get(code, "the hospital's own log says more")


def told(missing: Mapping[str, str]) -> str:
    """Return sentences about who is missing: names and codes, and of each code once what it means.

    missing: reason code by the hospital's name.
    """
    names = ", ".join(f"{name} ({code})" for name, code in missing.items())
    codes = (f"{code}: {code_meaning(code)}." for code in dict.fromkeys(missing.values()))
    return " ".join([f"{names or 'nobody'}.", *codes])


def code_advice(code: str) -> str:
    """Return what to do about a reason code; empty where nothing is known to help."""
    return CODE_ADVICE.get(code, "")
