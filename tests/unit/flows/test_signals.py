from __future__ import annotations

import signal

import pytest
from dispositions import HANGUPS, heed_hangups

from flows.signals import STOP_SIGNALS, StopRequest, list_heeded_signals, stop_on_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_what_is_going_on_and_then_is_as_before(number: signal.Signals, code: int) -> None:
    seen: list[object] = []

    def work() -> None:
        try:
            signal.raise_signal(number)
        except Exception:
            seen.append("caught as if it were an error")
        finally:
            seen.append(signal.getsignal(signal.SIGTERM))

    with heed_hangups():
        former = {each: signal.getsignal(each) for each in STOP_SIGNALS}
        with pytest.raises(StopRequest) as stop, stop_on_signals():
            work()
        after = {each: signal.getsignal(each) for each in STOP_SIGNALS}

    # While everything is put away, a second signal would end the process at once.
    assert seen == [signal.SIG_DFL]
    assert (stop.value.exit_code, stop.value.name) == (code, number.name)
    assert after == former


@pytest.mark.parametrize("number", HANGUPS)
def test_a_signal_that_was_ignored_stays_so(number: signal.Signals) -> None:
    with heed_hangups():
        former = signal.signal(number, signal.SIG_IGN)
        try:
            with stop_on_signals():
                signal.raise_signal(number)
                assert list_heeded_signals() == [each for each in STOP_SIGNALS if each is not number]
            with pytest.raises(StopRequest), stop_on_signals():
                signal.raise_signal(signal.SIGTERM)
            assert signal.getsignal(number) is signal.SIG_IGN
        finally:
            signal.signal(number, former)
