"""Where slabs wait between two visits: in CPU memory, in temporary files, or nowhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KEEP = ("memory", "disk", "nothing")


@contextmanager
def kept(
    keep: str, visit: Callable[[], Iterator[Tensor]], folder: str | Path | None
) -> Iterator[Iterable[Tensor]]:
    """Slabs that can be visited again and again; files are gone afterwards."""
    if keep == "nothing":
        yield Visits(visit)
    elif keep == "memory":
        yield Kept(visit, _move_to_cpu, _as_it_is)
    else:
        with tempfile.TemporaryDirectory(prefix="rankseg-", dir=folder) as place:
            yield Kept(visit, Files(Path(place)).write, Files.read)


class Visits:
    """Each visit makes the slabs anew."""

    def __init__(self, visit: Callable[[], Iterator[Tensor]]) -> None:
        self.visit = visit

    def __iter__(self) -> Iterator[Tensor]:
        """Start anew."""
        return self.visit()


class Kept:
    """The first visit makes the slabs and puts them somewhere, the others get them from there."""

    def __init__(
        self,
        visit: Callable[[], Iterator[Tensor]],
        put: Callable[[Tensor], Any],
        get: Callable[[Any], Tensor],
    ) -> None:
        self.visit = visit
        self.put = put
        self.get = get
        self.put_away: list[tuple[Any, torch.device]] | None = None

    def __iter__(self) -> Iterator[Tensor]:
        """Start anew."""
        return self._first() if self.put_away is None else self._again()

    def _first(self) -> Iterator[Tensor]:
        put_away = []
        for slab in self.visit():
            put_away.append((self.put(slab), slab.device))
            yield slab
        self.put_away = put_away

    def _again(self) -> Iterator[Tensor]:
        for ticket, device in self.put_away or ():
            yield self.get(ticket).to(device)


class Files:
    """A file for each slab."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0

    def write(self, slab: Tensor) -> Path:
        """Write a slab; returns the file."""
        path = self.folder / f"{self.number}.pt"
        self.number += 1
        values = slab.cpu()
        whole = values.untyped_storage().nbytes() == values.nbytes
        torch.save(values if whole else values.clone(), path)  # not all that it is a view of
        return path

    @staticmethod
    def read(path: Path) -> Tensor:
        """Slab that is read where it is looked at."""
        slab: Tensor = torch.load(path, mmap=True, weights_only=True)
        return slab


def _move_to_cpu(slab: Tensor) -> Tensor:
    return slab.cpu()


def _as_it_is(slab: Tensor) -> Tensor:
    return slab
