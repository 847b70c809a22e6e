"""Mixed load on a pipeline whose answers are known: nothing may be lost, nothing wrong."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from partitioner.errors import BackendError, DeadlineError, InputError, OverloadedError
from partitioner.runtime.batches import BatchedPipeline
from partitioner.runtime.events import StepEvent
from partitioner.runtime.requests import Request

__all__ = ["Tally", "stress"]

Array = np.ndarray[Any, Any]
Key = tuple[int, float]

#: Kinds of requests, and how many of each in so many.
KINDS = ("plain",) * 6 + ("cancelled", "late", "failing", "invalid", "stopping", "rows")


class Stopped(Exception):
    """Raised by a request's own callback."""


@dataclass
class Tally:
    """What became of the requests: by kind and outcome, and every one that went wrong."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    wrong: list[str] = field(default_factory=list[str])
    submitted: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str, fault: str | None) -> None:
        with self.lock:
            self.outcomes[kind, outcome] += 1
            if fault is not None:
                self.wrong.append(f"{kind}: {fault}")


#: What may become of a request of each kind.
ALLOWED = {
    "plain": {"answered"},
    "rows": {"answered"},
    "cancelled": {"answered", "cancelled"},
    "late": {"answered", "late"},
    "failing": {"failed"},
    "invalid": {"refused"},
    "stopping": {"stopped"},
}

OUTCOMES: dict[type[BaseException], str] = {
    CancelledError: "cancelled",
    DeadlineError: "late",
    BackendError: "failed",
    InputError: "refused",
    Stopped: "stopped",
}


def stress(
    pipe: BatchedPipeline,
    answers: dict[Key, Array],
    keep_on: Callable[[int], bool],
    *,
    callers: int = 4,
    seed: int = 0,
) -> Tally:
    """Submit requests of all kinds from several threads, each with a few under way.

    Args:
        answers: (number, scale) -> ``y`` of the request with this input, which is its seed, too.
        keep_on: given how many a caller has submitted, whether it goes on.
    """
    tally = Tally()

    def call(caller: int) -> None:
        chance, count = random.Random(seed * 1000 + caller), 0
        under_way: list[tuple[str, list[Key], Request]] = []
        while keep_on(count):
            count += 1
            under_way.append(_submitted(pipe, chance, sorted(answers), caller, tally))
            if len(under_way) >= 6:
                _check(*under_way.pop(0), answers, tally)
        for one in under_way:
            _check(*one, answers, tally)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally


def _submitted(
    pipe: BatchedPipeline, chance: random.Random, known: list[Key], caller: int, tally: Tally
) -> tuple[str, list[Key], Request]:
    kind = chance.choice(KINDS)
    keys = [chance.choice(known)]
    if kind == "rows":
        keys = [key for key in known if key[1] == keys[0][1]][: chance.randint(2, 6)]
    x = np.concatenate([np.full((1, 3), number, np.float32) for number, _ in keys])
    arguments: dict[str, Any] = {"scale": keys[0][1], "seed": [number for number, _ in keys]}
    if kind == "failing":
        x[0] = np.inf
    if kind == "invalid":
        x = x[:, :2]
    if kind == "late":
        arguments["timeout"] = chance.choice((0.0, 0.001, 0.02))
    if kind == "stopping":
        arguments["callback"] = _stopping(chance.randrange(4))
    while True:
        try:
            request = pipe.submit(x=x, client=caller % 2, **arguments)
        except OverloadedError:
            time.sleep(0.001)
            continue
        break
    with tally.lock:
        tally.submitted += 1
    if kind == "cancelled":
        if chance.random() < 0.5:
            time.sleep(chance.random() * 0.01)
        request.cancel()
    return kind, keys, request


def _stopping(step: int) -> Callable[[StepEvent], None]:
    def stop(event: StepEvent) -> None:
        if event.step == step:
            raise Stopped

    return stop


def _check(
    kind: str, keys: list[Key], request: Request, answers: dict[Key, Array], tally: Tally
) -> None:
    fault, outcome = None, "answered"
    try:
        outputs = request.result(60)
    except TimeoutError:
        outcome, fault = "lost", "no answer"
    except (CancelledError, DeadlineError, BackendError, InputError, Stopped) as error:
        outcome = OUTCOMES[type(error)]
    else:
        expected = np.concatenate([answers[key] for key in keys])
        if not np.allclose(expected, outputs["y"], rtol=1e-5, atol=1e-6):
            fault = f"{keys} got {outputs['y']} for {expected}"
    if outcome not in ALLOWED[kind]:
        fault = fault or f"{keys} was {outcome}"
    tally.add(kind, outcome, fault)
