import pytest

from jdl_keras.benchmarking import timing


class Clock:
    """Time that passes only when somebody works."""

    def __init__(self):
        self.now = 0.0

    def work(self, *seconds):
        """A call that takes these times in turn, then the last one for ever."""
        left = list(seconds)

        def call():
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    return clock


def test_median_of_calls_that_take_turns_without_their_warm_up(clock):
    # two calls warm up; of 1, 9, 1, 1, 1 the median is 1
    calls = {"a": clock.work(50, 50, 1, 9, 1), "b": clock.work(2)}
    assert timing.interleaved(calls, 0) == {"a": 1, "b": 2}


def test_it_goes_on_for_as_long_as_was_asked(clock):
    done = []
    timing.interleaved({"a": lambda: (clock.work(1)(), done.append(1))}, 20)
    assert len(done) == timing.WARM_UPS + 20


def test_products_last_as_long_as_the_work(clock):
    work, product = clock.work(90, 90, 12), clock.work(3)
    times = timing.as_long_as(work, product)
    assert times == 4
    assert timing.elapsed(timing.repeated(product, times)) == 12
    assert timing.as_long_as(product, clock.work(100)) == 1
