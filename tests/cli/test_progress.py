from __future__ import annotations

from photodesk.cli import progress


def test_without_a_terminal_it_says_rate_and_time_left_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 30.0, 40.0, 60.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with progress.bars() as report:
        for done in (100, 200, 400, 500, 1300):
            report("photos", done, 1300)
    assert capsys.readouterr().err.splitlines() == ["photos: 400 of 1300, 10.0/s, 2 min left", "photos: 1300, 20.0/s"]


def test_what_is_over_at_once_is_passed_over(monkeypatch, capsys):
    clock = iter([0.0, 0.0, 0.9, 2.0, 3.1])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with progress.bars() as report:
        report("kept", 7, 7)
        for stage in ("texts", "photos"):
            for done in (0, 7):
                report(stage, done, 7)
    assert capsys.readouterr().err == "photos: 7, 6.4/s\n"
