"""What a head, a decision as a graph, can be made of."""

from __future__ import annotations

from typing import NoReturn

from rankseg.validation.choices import listed


def can_be_unrolled(solver: str, metric: str, aggregation: str, backend: str) -> None:
    """Refuse what no fixed number of plain tensor operations decides."""
    possible = ("RMA", "argmax", "TR")
    if metric != "acc" and solver not in possible:
        raise ValueError(
            f"head() unrolls {listed(possible)} and metric='acc'; got solver={solver!r}, whose "
            "steps depend on the values: torch.export holds it as one operator (rankseg is then "
            "needed where the program runs)"
        )
    if aggregation != "image":
        raise ValueError(
            f"head() decides each image alone; got aggregation={aggregation!r}: find one rule for "
            "the data set with decide(...), whose head() is a fixed rule"
        )
    if backend not in ("auto", "torch"):
        raise ValueError(f"head() is made of plain torch; got backend={backend!r}: use 'auto'")


def graph_number(argument: str, number: float) -> None:
    """Refuse what ONNX, which holds plain numbers as float32, would make zero or infinite."""
    if number and not 1e-30 <= number <= 1e30:
        raise ValueError(
            f"head() takes {argument} = 0 or from 1e-30 to 1e30; got {argument}={number:g}"
        )


def refuse_script(module: object) -> NoReturn:
    """Say what to do instead of ``torch.jit.script``, which knows too little Python."""
    raise TypeError(
        f"torch.jit.script cannot read {type(module).__name__}: use torch.export or "
        "torch.jit.trace; what ends in RankSEG(...).head() then runs without this package"
    )
