"""The ledger of looks at test windows."""

from __future__ import annotations

from dataclasses import replace

from agents.evidence.looks import looks, looks_note, note_look
from agents.policies.bundle import Bundle


def test_a_look_is_the_first_time_that_weights_meet_the_windows_of_a_scenario(bundle: Bundle) -> None:
    other = replace(bundle, network=bundle.network + 1)
    assert note_look("somewhere", "mine", [bundle], "first")
    assert not note_look("somewhere", "mine", [bundle], "again")
    assert note_look("elsewhere", "mine", [bundle], "another scenario")
    # a second training seed is new although the first is known; then neither is
    assert note_look("somewhere", "mine", [bundle, other], "more seeds")
    assert not note_look("somewhere", "renamed", [other, bundle], "another name")
    assert [look.purpose for look in looks() if look.scenario == "somewhere"] == ["first", "more seeds"]
    assert looks_note(["somewhere", "nowhere"]).endswith(": somewhere 2 (mine); nowhere 0.")
