"""Worker processes: their answers, and every way they can go."""

import os
import sys

import pytest

from tfshape.benchmarks import shaping
from tfshape.benchmarks.process import Gone, Worker

pytestmark = pytest.mark.one_stack

PROGRAM = f"""
import sys, time
sys.path.insert(0, {str(shaping.WORKERS)!r})
from protocol import forget_peak, memory_mb, serve

class Trainer:
    parameters, detail = 7, "as asked"
    def __init__(self, model, variant, batch_size):
        self.variant, self.batch_size = variant, batch_size
    def train(self, steps):
        print("noise on stdout")
        if self.variant == "hoard":
            held = [bytearray(b"x" * 10_000_000)]
            while True:
                held.append(held[0][:])
                time.sleep(0.005)
        if self.variant == "hold":
            held = bytearray(b"x" * 200_000_000)
            del held
        if self.variant == "forget":
            held = bytearray(b"x" * 200_000_000)
            del held
            forget_peak()
        if self.variant == "sleep":
            time.sleep(60)
        if self.variant == "short":
            raise MemoryError
        if self.variant == "fail":
            raise RuntimeError("no such layer")
        return steps * self.batch_size * 0.5

serve(Trainer)
"""


@pytest.fixture
def start(tmp_path):
    (tmp_path / "toy.py").write_text(PROGRAM)
    started = []

    def start(variant, limit_mb=1000.0, timeout=30.0):
        started.append(Worker([sys.executable, str(tmp_path / "toy.py"), "m", variant, "3"], None, limit_mb, timeout))
        first = started[-1].answer()
        assert first["parameters"] == 7 and 1 < first["start_mb"] < 100
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def test_a_worker_answers_each_time_it_is_asked(start):
    worker = start("ok")
    for steps in (1, 4):
        answer = worker.ask(steps)
        assert answer["seconds"] == steps * 1.5 and answer["detail"] == "as asked" and answer["peak_mb"] < 100


def test_peak_memory_is_the_most_ever_held_unless_forgotten(start):
    assert start("hold").ask(1)["peak_mb"] > 200
    assert start("forget").ask(1)["peak_mb"] < 100


@pytest.mark.parametrize(
    ("variant", "limits", "status", "words"),
    [
        ("hoard", {"limit_mb": 150.0}, "out of memory", "more than 0.15 GB"),
        ("sleep", {"timeout": 1.0}, "timeout", "no answer in 1 s"),
        ("short", {}, "out of memory", "exit code 1"),
        ("fail", {}, "failed", "exit code 1: RuntimeError: no such layer"),
    ],
)
def test_a_worker_that_goes_says_why(start, variant, limits, status, words):
    worker = start(variant)
    for name, value in limits.items():
        setattr(worker, name, value)
    with pytest.raises(Gone) as caught:
        worker.ask(1)
    assert caught.value.status == status and words in caught.value.detail
    worker.process.wait(10)
    with pytest.raises(Gone):
        worker.ask(1)


def test_closing_ends_the_process(start):
    worker = start("sleep")
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(worker.process.pid, 0)
