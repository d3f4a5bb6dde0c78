"""How much of what was due a message says it is made of."""

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from messages.analyses import FACTS, START_US, frame, person, validator

from crow_receiver.messages.coverage import LARGEST, MAX_REASONS, Coverage
from crow_receiver.messages.interaction import interaction_batch
from crow_receiver.messages.pattern import pattern_window
from crow_receiver.store.ledger import LedgerSums

_words = st.from_regex(r"[a-z][a-z0-9_]{0,39}", fullmatch=True)
_counts = st.dictionaries(_words, st.integers(0, 10**9), max_size=60).map(Counter)


@given(st.integers(0, 10**9), _counts, _counts, st.sets(_words, max_size=30), st.integers(0, 60))
def test_a_sum_stays_whole_however_many_reasons_there_are(
    sent: int, gated: Counter[str], dropped: Counter[str], alerts: set[str], known: int
) -> None:
    expected = sent + gated.total() + dropped.total()
    coverage = Coverage.of(LedgerSums(known, expected, sent, gated, dropped, alerts), 60, START_US)
    assert coverage.expected == coverage.sent + sum(coverage.gated.values()) + sum(coverage.dropped.values())
    assert len(coverage.gated) <= MAX_REASONS
    assert coverage.known == (known == 60)
    assert len(coverage.to_json()) <= len(LARGEST.to_json())
    told = json.loads(interaction_batch(FACTS, 0, [frame(0)], coverage, late=False).to_json())
    validator("interaction-batch-1").validate(told)
    assert Coverage.model_validate(told["coverage"]) == coverage


def test_where_no_ledger_has_come_nothing_is_claimed() -> None:
    told = json.loads(Coverage.of(LedgerSums(), 2, START_US).to_json())
    assert (told["known"], told["knownMinutes"], told["minutes"], told["expected"]) == (False, 0, 2, 0)
    assert told["asOf"] == START_US // 1000


def test_people_in_a_frame_count_for_the_time_that_it_stands_for() -> None:
    frames = [frame(0, people=[person("Till")], stands_for_ms=4000), frame(4, people=[person("Till")])]
    window = pattern_window(FACTS, START_US, frames, 0, LARGEST)
    assert window.people.person_seconds == window.zones[0].person_seconds == 5.0
