from __future__ import annotations

import signal

import pytest

from flows.signals import STOP_SIGNALS, StopRequest, stop_on_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_what_is_going_on_and_then_is_as_before(number: signal.Signals, code: int) -> None:
    former = {each: signal.getsignal(each) for each in STOP_SIGNALS}
    seen: list[object] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        except Exception:
            seen.append("caught as if it were an error")
        finally:
            seen.append(signal.getsignal(signal.SIGTERM))

    with pytest.raises(StopRequest) as stop, stop_on_signals():
        work()

    # While everything is put away, a second signal would end the process at once.
    assert seen == [signal.SIG_DFL]
    assert (stop.value.exit_code, stop.value.name) == (code, number.name)
    assert {each: signal.getsignal(each) for each in STOP_SIGNALS} == former


def test_a_signal_that_was_ignored_stays_so() -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)
