"""What tests of mappings, budgets and rates share: a clock that is moved by hand, and what runs under it."""

from __future__ import annotations

import pytest

from processor.local.mapping import EventSourceMapping, MappingSettings
from processor.local.memory_kinesis import MemoryKinesis


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock(1_700_000_000.0)


@pytest.fixture
def stopwatch():
    return Clock(0.0)


@pytest.fixture
def kinesis(clock):
    return MemoryKinesis(clock=clock)


@pytest.fixture
def mapping_of(kinesis, function, clock):
    """Makes mappings of a stream, `kinesis` unless another is given; the tests' own `function` is invoked."""

    def make(stream=kinesis, **settings):
        more = {name: settings.pop(name) for name in ("on_failure", "checkpoints") if name in settings}
        chosen = MappingSettings(**{"batching_window_seconds": 0, **settings})
        return EventSourceMapping(stream, stream.arn, function, chosen, clock=clock, **more)

    return make


@pytest.fixture
def run(clock):
    """Steps a mapping for so many seconds."""

    def run(mapping, seconds=10.0):
        end = clock.now + seconds
        while (due := mapping.step()) <= end:
            clock.now = max(clock.now, due)
        clock.now = end

    return run
