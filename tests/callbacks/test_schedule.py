from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokscope.callbacks.schedule import at, every, log, parse_schedule

schedules = st.one_of(
    st.integers(1, 50).map(every),
    st.integers(1, 30).map(log),
    st.lists(st.integers(0, 500), min_size=1, max_size=9).map(at),
)


@given(schedules, st.integers(0, 2000))
def test_next_due_is_the_first_due_epoch(schedule, epoch: int) -> None:
    following = schedule.next_due(epoch)
    scanned = next((e for e in range(epoch, epoch + 2000) if schedule.due(e)), None)
    if following is None or following < epoch + 2000:
        assert following == scanned


@given(schedules, schedules, st.integers(0, 600))
def test_a_union_is_due_when_a_part_is(a, b, epoch: int) -> None:
    assert (a | b).due(epoch) == (a.due(epoch) or b.due(epoch))


@given(schedules, st.integers(0, 100), st.integers(0, 400))
def test_epochs_lists_the_due_ones_in_the_span(schedule, start: int, length: int) -> None:
    listed = schedule.epochs(start + length, start)
    assert listed == [e for e in range(start, start + length) if schedule.due(e)]


def test_log_has_the_points_of_a_decade() -> None:
    assert log(5).epochs(101) == [0, 1, 2, 3, 4, 6, 10, 16, 25, 40, 63, 100]


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("every 4", [0, 4, 8]),
        (4, [0, 4, 8]),
        ("at 3 1 9", [1, 3, 9]),
        ("log 1 + at 5", [0, 1, 5, 10]),
        (every(5), [0, 5, 10]),
    ],
)
def test_settings_are_read_as_written(text, epochs: list[int]) -> None:
    assert parse_schedule("schedule", text).epochs(11) == epochs


@pytest.mark.refusal
@pytest.mark.parametrize(
    "text", ["every 0", "every", "at", "sometimes", "log -1", "every 2.5", "", True, None, "at -1"]
)
def test_what_is_not_a_schedule_is_refused_with_the_grammar(text) -> None:
    with pytest.raises(ValueError, match=r"schedule\.batch must be 'every N', 'log"):
        parse_schedule("schedule.batch", text)
