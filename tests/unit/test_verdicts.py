"""How carefully an owner goes on, by what earlier ones left behind."""

from __future__ import annotations

import numpy as np

from engine.inputs import FILL_DTYPE, Credit, Fills, Frame, FrameKind, RefusedFill, Tick
from streams.verdicts import CAREFUL_FRAMES_MAX, PREFIX, TRIAL_KEY, Trial, Trials, emptied, set_aside, verdicts

CUT, END = 9, 20


def after(rows: dict[bytes, bytes], *new: tuple[bytes, bytes]) -> dict[bytes, bytes]:
    return rows | dict(new)


def test_a_first_owner_goes_on_at_full_speed_and_leaves_word() -> None:
    trials = Trials({}, CUT, END)
    assert trials.careful_until == -1
    assert trials.condemned == -1
    assert trials.new_rows == [Trial(CUT, 1).row()]


def test_an_owner_with_nothing_to_apply_writes_nothing() -> None:
    assert Trials({}, CUT, CUT + 1).new_rows == []
    assert Trials({}, -1, 0).new_rows == []


def test_a_trial_of_another_cut_is_over() -> None:
    rows = dict([Trial(CUT - 1, 5, CUT, 2).row()])
    trials = Trials(rows, CUT, END)
    assert trials.careful_until == -1
    assert trials.condemned == -1
    assert trials.new_rows == [Trial(CUT, 1).row()]


def test_a_frame_found_in_trial_twice_is_set_aside_and_stays_so() -> None:
    rows = after({}, *Trials({}, CUT, END).new_rows)
    second = Trials(rows, CUT, END)  # the first came to no cut
    assert second.careful_until == END - 1
    assert second.condemned == -1
    rows = after(rows, *second.new_rows, second.row_for(CUT + 1, CUT))
    third = Trials(rows, CUT, END)
    assert third.condemned == -1
    assert third.careful_until == END - 1
    rows = after(rows, *third.new_rows, third.row_for(CUT + 1, CUT))
    fourth = Trials(rows, CUT, END)
    assert fourth.condemned == CUT + 1
    assert fourth.verdicts == {CUT + 1: 1}
    rows = after(rows, *fourth.new_rows)
    assert verdicts(rows.items()) == {CUT + 1: 1}
    assert Trials(rows, CUT, END).condemned == -1  # it is not judged twice
    assert Trials(rows, END + 5, END + 9).verdicts == {CUT + 1: 1}


def test_a_frame_that_ends_owners_although_it_was_set_aside_gets_another_verdict() -> None:
    rows = after({}, *Trials({}, CUT, END).new_rows)
    for _ in range(4):
        trials = Trials(rows, CUT, END)
        rows = after(rows, *trials.new_rows, trials.row_for(CUT + 1, CUT))
    assert verdicts(rows.items()) == {CUT + 1: 1}
    assert Trials(rows, CUT, END).verdicts == {CUT + 1: 2}


def test_moves_without_a_trial_never_set_a_frame_aside() -> None:
    rows: dict[bytes, bytes] = {}
    for _ in range(10):  # loaded and lost, before any frame was tried
        trials = Trials(rows, CUT, END)
        assert trials.condemned == -1
        rows = after(rows, *trials.new_rows)


def test_an_owner_whom_the_broker_kept_from_a_cut_is_spared() -> None:
    rows = after({}, *Trials({}, CUT, END).new_rows)  # somebody who died before a cut
    spared = None
    for _ in range(10):
        trials = Trials(rows, CUT, END, spared)
        assert trials.condemned == -1
        assert trials.careful_until == END - 1
        rows = after(rows, *trials.new_rows, tried := trials.row_for(CUT + 1, CUT))
        assert tried == Trial(CUT, 2, CUT + 1, 1).row()
        _, spared = tried
    rows = after(rows, Trials(rows, CUT, END).row_for(CUT + 1, CUT))  # another process, which knows nothing of it, and dies
    assert Trials(rows, CUT, END, spared).condemned == CUT + 1


def test_an_owner_without_a_trial_is_spared_as_well() -> None:
    first = Trials({}, CUT, END)
    rows = after({}, *first.new_rows)
    assert Trials(rows, CUT, END, rows[TRIAL_KEY]).careful_until == -1


def test_another_frame_in_trial_counts_afresh() -> None:
    rows = dict([Trial(CUT, 3, CUT + 1, 1).row()])
    trials = Trials(rows, CUT, END)
    assert trials.row_for(CUT + 1, CUT) == Trial(CUT, 4, CUT + 1, 2).row()
    assert trials.row_for(CUT + 2, CUT + 1) == Trial(CUT + 1, 4, CUT + 2, 1).row()


def test_care_is_bounded() -> None:
    rows = dict([Trial(CUT, 1).row()])
    assert Trials(rows, CUT, 10_000).careful_until == CUT + CAREFUL_FRAMES_MAX


def test_the_shells_rows_are_told_apart() -> None:
    assert TRIAL_KEY.startswith(PREFIX)
    assert verdicts([(b"a:someone", b""), (TRIAL_KEY, b""), (PREFIX + b"verdict:7", None)]) == {}


def test_an_emptied_frame_covers_what_it_covered() -> None:
    fills = Frame(FrameKind.FILLS, "venue.fills", 1, 4, 8, Fills(["a"], [("v", "i")], [], np.zeros(1, FILL_DTYPE)), [])
    empty = emptied(fills)
    assert empty[:5] == fills[:5]
    assert isinstance(empty.events, Fills)
    assert len(empty.events.rows) == 0
    inner = Frame(FrameKind.TICK, "ticker", 0, 1, 2, [Tick(2)], [2])
    copy = emptied(Frame(FrameKind.CONTROL, "control", 0, 6, 7, [inner], [7]))
    assert copy.offsets == [7]
    assert copy.events == [inner._replace(events=[], offsets=[])]
    assert set_aside(copy, 1) == copy


def test_fills_and_credits_that_are_set_aside_are_missed() -> None:
    rows = np.zeros(2, FILL_DTYPE)
    rows["account"], rows["sequence"], rows["offset"] = [1, 0], [7, 8], [5, 8]
    fills = Frame(FrameKind.FILLS, "venue.fills", 1, 4, 8, Fills(["a", "b"], [("v", "i")], [], rows), [])
    missed = [RefusedFill("b", "v", 7), RefusedFill("a", "v", 8)]
    assert set_aside(fills, 1) == Frame(FrameKind.REFUSED_FILLS, "venue.fills", 1, 4, 8, missed, [5, 8])
    assert set_aside(fills, 2)[:5] == fills[:5]
    assert len(set_aside(fills, 2).events[3]) == 0
    moved = Frame(FrameKind.CREDITS, "attestor", 2, 3, 4, [Credit("a", "c", "s", 5, 1, bytes(32), 0)], [4])
    assert set_aside(moved, 1) == Frame(FrameKind.REFUSED_FILLS, "attestor", 2, 3, 4, [RefusedFill("a", "", -1)], [4])
    assert set_aside(moved, 2) == moved._replace(events=[], offsets=[])
