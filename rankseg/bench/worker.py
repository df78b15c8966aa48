"""Makes maps, calls one contender, and says how long it took or how much memory it needed.

Started as a script in its own interpreter: ours, or the peer's, where ``import rankseg`` finds the
peer. So this file imports nothing else of this package, and both sides are measured by the same
lines. It reads requests from stdin, one JSON object a line, and answers each with one line.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SEED = 0
COARSE = 16
"""Pixels between the nodes of a smooth map: networks decide at a half to a 32nd of the image."""

Work = Callable[[Tensor], Tensor]

PLAIN: dict[str, Work] = {
    "argmax": lambda values: values.argmax(1),
    "softmax": lambda values: values.softmax(1),
    "sigmoid": torch.sigmoid,
    "cut": lambda values: values > 0.5,
    "copy": torch.clone,
}


def logits(shape: tuple[int, ...], maps: str) -> Tensor:
    """Logits, float32, the same on every run.

    ``noise``: 3 times a normal number for each pixel and class; every class is everywhere likely
    somewhere, no two pixels are alike. ``smooth``: random regions some tens of pixels wide, with
    a little noise, and an offset for each class that makes some dominate and others absent.
    """
    random = torch.Generator().manual_seed(SEED)
    if maps == "noise":
        return torch.randn(shape, generator=random).mul_(3)
    rows, space = shape[:2], shape[2:]
    nodes = torch.randn(*rows, *(2 + side // COARSE for side in space), generator=random)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(space)]
    regions = F.interpolate(nodes, size=space, mode=mode).mul_(6)
    regions += 3 * torch.randn(*rows, *(1 for _ in space), generator=random)
    return regions.add_(torch.randn(shape, generator=random), alpha=0.5)


class Bench:
    """One set of maps, and what can be measured on it."""

    def __init__(self) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.device = "cpu"

    def make(
        self, shape: list[int], maps: str, threads: int, device: str, inputs: list[str]
    ) -> None:
        """Replace the maps: ``inputs`` are ``probs``, ``logits`` or both."""
        self.inputs.clear()
        torch.set_num_threads(threads)
        self.device = device
        made = logits(tuple(shape), maps)
        if "logits" in inputs:
            self.inputs["logits"] = made.to(device)
        if "probs" in inputs:
            probs = made.softmax(1) if shape[1] > 1 else made.sigmoid()
            self.inputs["probs"] = probs.to(device)

    def about(self) -> dict[str, str]:
        """Versions of what runs here."""
        found = ("rankseg", "torch", "numpy")
        return {"python": platform.python_version(), **{name: version(name) for name in found}}

    def time(self, call: dict[str, Any], number: int) -> float:
        """Seconds of one call, the mean of ``number`` in a row."""
        work, values = self._work(call), self.inputs[call["input"]]
        self._wait()
        start = time.perf_counter()
        for _ in range(number):
            work(values)
        self._wait()
        return (time.perf_counter() - start) / number

    def memory(self, call: dict[str, Any]) -> dict[str, int]:
        """Bytes: peak above what was there before the call; of the result; of the input."""
        work, values = self._work(call), self.inputs[call["input"]]
        work(values)  # loads what is loaded late: the code for this size, the threads
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            result = work(values)
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
            before = _status("VmRSS")
            result = work(values)
            peak = _status("VmHWM") - before
        return {"peak": peak, "result": result.nbytes, "input": values.nbytes}

    def _work(self, call: dict[str, Any]) -> Work:
        if call["name"] in PLAIN:
            return PLAIN[call["name"]]
        from rankseg import RankSEG

        return RankSEG(**call["options"]).predict

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main() -> None:
    """Answer requests until stdin ends; what libraries print to stdout goes to stderr instead."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    bench = Bench()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": getattr(bench, request.pop("do"))(**request)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
