from __future__ import annotations

import json
import math
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grokscope.callbacks.schedule import Schedule, adaptive, at, every, log, parse_schedule

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


# -- adaptive --------------------------------------------------------------------------------

fractions = st.one_of(st.floats(0, 1), st.just(math.nan))
rows = st.lists(st.tuples(st.integers(1, 40), fractions, fractions), max_size=40)
pairs = st.tuples(schedules, schedules, st.floats(0.1, 5)).map(lambda p: adaptive(*p))


def followed(schedule: Schedule, drawn) -> tuple[Schedule, int]:
    """The schedule after rows with random gaps, and the last epoch."""
    epoch = 0
    for gap, accuracy, loss in drawn:
        epoch += gap
        schedule = schedule.observe(epoch, accuracy, loss)
    return schedule, epoch


def rows_of(schedule: Schedule, curve, stop: int) -> list[int]:
    """Epochs at which a run measures that looks at its curves at every row of the schedule."""
    found = []
    while (epoch := schedule.next_due(found[-1] + 1 if found else 0)) is not None and epoch < stop:
        found.append(epoch)
        schedule = schedule.observe(epoch, *curve(epoch))
    return found


def rising(at: float, width: float):
    """Accuracy from 0.1 to 1 and loss from 2 to 0, around an epoch, over a number of decades."""

    def curve(epoch: int) -> tuple[float, float]:
        share = 1 / (1 + math.exp(-(math.log10(1 + epoch) - math.log10(at)) / width))
        return 0.1 + 0.9 * share, 2 * (1 - share)

    return curve


@given(pairs, rows, st.integers(0, 2000))
def test_adaptive_keeps_the_protocol_whatever_it_sees(schedule, drawn, epoch: int) -> None:
    after, _ = followed(schedule, drawn)
    following = after.next_due(epoch)
    scanned = next((e for e in range(epoch, epoch + 2000) if after.due(e)), None)
    if following is None or following < epoch + 2000:
        assert following == scanned


@given(pairs, rows)
def test_adaptive_is_never_coarser_than_coarse_nor_denser_than_dense(schedule, drawn) -> None:
    after, last = followed(schedule, drawn)
    due = set(after.epochs(last + 200))
    assert due >= set(schedule.coarse.epochs(last + 200))
    assert due <= set((schedule.coarse | schedule.dense).epochs(last + 200))
    assert not after.fixed
    assert schedule.dense_until == -1  # a schedule is a value


@given(pairs, rows, rows)
def test_adaptive_goes_on_from_its_state(schedule, before, later) -> None:
    both = schedule | every(50)
    first, epoch = followed(both, before)
    state = json.loads(json.dumps(first.state()))  # plain values
    second = both.restored(state)
    assert second == first
    shifted = [(epoch + 1, 0.5, 0.5), *later]
    assert followed(second, shifted) == followed(first, shifted)


@pytest.mark.parametrize("state", [None, [], [None], "?", 3])
def test_the_state_of_another_schedule_is_passed_over(state) -> None:
    for schedule in (adaptive(), adaptive() | every(3), every(3)):
        assert schedule.restored(state) == schedule


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0, math.nan])
def test_a_plateau_is_coarse(value: float) -> None:
    schedule = adaptive(log(5), every(1))
    assert rows_of(schedule, lambda _: (value, value), 10**5) == log(5).epochs(10**5)


@pytest.mark.parametrize("at_epoch", [30, 300, 3000, 300_000])
@pytest.mark.parametrize("silent", [0, 1])
def test_a_rise_is_dense_at_any_epoch_and_nothing_else_is(at_epoch: int, silent: int) -> None:
    """By accuracy alone, and by loss alone; the same share of a decade wherever it happens."""
    curve = rising(at_epoch, 0.04)

    def half(epoch: int) -> tuple[float, float]:
        row = list(curve(epoch))
        row[silent] = math.nan
        return row[0], row[1]

    due = rows_of(adaptive(log(20), log(500)), half, 100 * at_epoch)
    dense, coarse = set(log(500).epochs(100 * at_epoch)), set(log(20).epochs(100 * at_epoch))
    middle = {e for e in dense if at_epoch <= e < 1.4 * at_epoch}
    assert middle <= set(due)
    assert {e for e in due if not 0.4 * at_epoch < e < 2.6 * at_epoch} <= coarse
    assert len(due) < 500


def test_dense_rows_begin_at_the_first_coarse_row_that_shows_the_rise() -> None:
    jump = lambda epoch: (0.0 if epoch < 500 else 1.0, math.nan)  # noqa: E731
    due = rows_of(adaptive(log(10), every(1)), jump, 5000)
    first = next(e for e in log(10).epochs(5000) if e >= 500)
    dense = [e for e in due if e not in log(10).epochs(5000)]
    assert dense[0] == first + 1
    assert dense == [e for e in range(first + 1, dense[-1] + 1) if not log(10).due(e)]
    gap = math.log10((1 + first) / (1 + max(e for e in log(10).epochs(500))))
    speed = (1 - math.exp(-gap / 0.05)) / gap  # of the average at the first row after the jump
    settled = math.log10((1 + dense[-1]) / (1 + first))
    assert settled == pytest.approx(0.05 * math.log(speed / 0.5) + 0.1, abs=2e-3)


def test_noise_on_a_plateau_does_not_make_it_dense() -> None:
    generator = random.Random(0)
    noisy = lambda _: (generator.gauss(0.1, 0.004), generator.gauss(2.3, 0.008))  # noqa: E731
    due = rows_of(adaptive(log(20), every(1)), noisy, 20_000)
    assert set(due) <= set(range(10)) | set(log(20).epochs(20_000))


@pytest.mark.parametrize("silent", [(math.nan, math.nan), (math.nan, 1.0), (0.5, math.nan)])
def test_curves_that_end_in_a_rise_do_not_keep_it_dense(silent: tuple[float, float]) -> None:
    rise = lambda epoch: (epoch / 50, 1.0) if epoch <= 50 else silent  # noqa: E731
    due = rows_of(adaptive(log(5), every(1)), rise, 5000)
    assert set(due) >= set(range(20, 60))
    assert {e for e in due if e > 120} <= set(log(5).epochs(5000))


def test_a_higher_threshold_asks_for_a_faster_rise() -> None:
    curve = rising(1000, 0.2)  # about one in accuracy a decade at its steepest
    slow, fast = (adaptive(log(20), log(500), t) for t in (0.5, 3.0))
    assert len(rows_of(slow, curve, 10_000)) > 2 * len(rows_of(fast, curve, 10_000))
    assert rows_of(fast, curve, 10_000) == log(20).epochs(10_000)


def test_in_a_union_the_other_part_is_a_bound_in_epochs() -> None:
    schedule = parse_schedule("schedule", "adaptive log 5 to every 5 + every 1000")
    due = rows_of(schedule, lambda _: (0.1, 2.0), 10_000)
    assert due == (log(5) | every(1000)).epochs(10_000)
    assert not schedule.fixed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("adaptive", adaptive(log(20), log(500), 0.5)),
        ("adaptive above 2", adaptive(threshold=2.0)),
        ("adaptive log 10 to every 5", adaptive(log(10), every(5))),
        ("adaptive every 100 to at 1 2 above 0.25", adaptive(every(100), at([1, 2]), 0.25)),
        ("adaptive + at 7", adaptive() | at([7])),
    ],
)
def test_adaptive_is_read_as_written_and_printed_so(text: str, expected) -> None:
    schedule = parse_schedule("schedule", text)
    assert schedule == expected
    assert parse_schedule("schedule", str(schedule).replace("'", "")) == expected


@pytest.mark.refusal
@pytest.mark.parametrize(
    "text",
    [
        "adaptive log 20",
        "adaptive to every 5",
        "adaptive log 20 to",
        "adaptive above",
        "adaptive above -1",
        "adaptive above nan",
        "adaptive above 1 2",
        "adaptive adaptive to every 5",
        "adaptive log 5 to adaptive",
        "adaptive sparse to dense",
    ],
)
def test_what_is_not_adaptive_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"schedule\.batch must be .*'adaptive \[COARSE to DENSE\]"
    ):
        parse_schedule("schedule.batch", text)


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coarse": adaptive()}, "adaptive must go between fixed schedules, got 'adaptive log 20"),
        ({"threshold": 0}, "threshold must be a number > 0, got 0"),
        ({"smoothing": 0}, "smoothing must be"),
        ({"settle": math.inf}, "settle must be"),
    ],
)
def test_wrong_settings_of_adaptive_are_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adaptive(**arguments)


@pytest.mark.refusal
@pytest.mark.parametrize(
    "text", ["every 0", "every", "at", "sometimes", "log -1", "every 2.5", "", True, None, "at -1"]
)
def test_what_is_not_a_schedule_is_refused_with_the_grammar(text) -> None:
    with pytest.raises(ValueError, match=r"schedule\.batch must be 'every N', 'log"):
        parse_schedule("schedule.batch", text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "every 1",
            "every 7",
            "log 1",
            "log 20",
            "log 500",
            "at 0 3 10 99 1000",
            "log 5 + every 9",
        ),
        *(
            "every 4 + every 6",
            "every 4 + every 6 + every 10 + at 5",
            "every 2 + every 4 + log 30",
        ),
    ],
)
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 0), (0, 1), (0, 1000), (7, 500), (60, 61), (9, 3)]
)
def test_the_number_of_epochs_is_counted(text, start, stop):
    schedule = parse_schedule("x", text)
    assert schedule.count(stop, start) == len(schedule.epochs(stop, start))
    nested = schedule | parse_schedule("x", "every 5 + log 3")
    assert nested.count(stop, start) == len(nested.epochs(stop, start))


def test_billions_of_epochs_are_counted_at_once():
    schedule = parse_schedule("x", "every 1 + log 10000 + every 3")
    began = time.monotonic()
    assert schedule.count(10**12) == 10**12
    assert time.monotonic() - began < 20


@pytest.mark.refusal
@pytest.mark.parametrize(
    "value",
    [
        *(
            "every 1e30",
            "every -1",
            f"every {10**30}",
            f"every {'9' * 5000}",
            "log 10001",
            "log 1e3",
        ),
        *(
            f"at {10**30}",
            "at 1 -1",
            "at 1.5",
            " + ".join(["every 2"] * 100),
            "",
            "+",
            "every",
            True,
        ),
        *(None, 1.5, [], ["every 1"], {}, "adaptive above nan", "adaptive above inf", "every 1\0"),
    ],
)
def test_an_absurd_schedule_is_refused_in_a_short_line(value):
    with pytest.raises(ValueError, match=r"^x must be 'every N'") as caught:
        parse_schedule("x", value)
    assert len(str(caught.value)) < 800


@pytest.mark.refusal
def test_a_list_of_millions_is_refused_at_once():
    text = "at " + " ".join(map(str, range(10**6)))
    with pytest.raises(ValueError, match="must list 1 to 100,000 epochs, got more") as caught:
        parse_schedule("x", text)
    assert len(str(caught.value)) < 800
