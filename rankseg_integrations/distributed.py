"""torch.distributed: one rule for the tiles of all ranks, each of which holds its own.

Every rank calls ``decide(tiles, RankSEG("dice"))`` and gets the same rule, to apply to its tiles.
docs/larger-than-memory.md has the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from rankseg import DecisionRule, Mergeable, RankSEG
from rankseg_integrations._common import check_tiles, each_tile

__all__ = ["decide"]

Answer = TypeVar("Answer", bound=Mergeable)


def decide(
    tiles: Tensor | Iterable[Tensor],
    rankseg: RankSEG,
    *,
    group: dist.ProcessGroup | None = None,
) -> DecisionRule:
    """One rule for the pixels of all ranks; every rank of the group has to call this.

    Pixels stay where they are. Five to nine times the ranks exchange a few numbers per class, one
    time also a histogram of 64 KB per class and rank.

    Parameters
    ----------
    tiles : Tensor, shape (B, C, *spatial), or re-iterable of such tensors
        This rank's tiles or images, as ``RankSEG.decide`` takes them; an empty list if it has none.
        A tile that two ranks hold counts twice: ``DistributedSampler`` repeats images unless their
        number is a multiple of the number of ranks.
    rankseg : RankSEG
        The same on every rank.
    group : ProcessGroup, optional
        The ranks that take part; by default all. With NCCL, call ``torch.cuda.set_device`` first.

    Returns
    -------
    DecisionRule
        On every rank that of all tiles in one process, bit for bit, whoever holds which.

    Raises
    ------
    TypeError, ValueError
        As ``RankSEG.decide``, on the rank whose tiles are the reason; if all tiles together, or the
        settings of the ranks, are, then on every rank.
    RuntimeError
        If another rank failed, with its message; if there is no process group.
    """
    ranks = _Ranks(tiles, group)
    ranks.agree(rankseg)
    return rankseg.decide(ranks)


class _Ranks:
    """Tiles that are spread over the ranks of a process group."""

    def __init__(
        self, tiles: Tensor | Iterable[Tensor], group: dist.ProcessGroup | None = None
    ) -> None:
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError(
                "there is no process group: call torch.distributed.init_process_group first, or "
                "RankSEG.decide where there is one process"
            )
        if dist.get_rank(group) < 0:
            raise ValueError("this rank is no member of the group")
        self.tiles: Any = [tiles] if isinstance(tiles, Tensor) else tiles
        self.group = group

    def agree(self, rankseg: RankSEG) -> None:
        """Refuse settings that differ: ranks would ask different questions, and wait for ever."""

        def mine() -> Any:
            check_tiles(self.tiles, once=False)
            return rankseg.settings

        first, *others = self._gather(mine)
        for rank, settings in enumerate(others, 1):
            if settings != first:
                raise ValueError(f"ranks disagree: rank 0 has {first}, rank {rank} {settings}")

    def reduce(self, ask: Callable[[Tensor], Answer]) -> Answer:
        """Ask this rank's tiles, then exchange the answers."""

        def mine() -> Answer | None:
            return _merged(map(ask, each_tile(self.tiles)))

        found: Answer | None = _merged(self._gather(mine))
        if found is None:
            raise ValueError("there are no tiles to decide on, on any rank")
        return found

    def _gather(self, compute: Callable[[], Any]) -> list[Any]:
        """What every rank computes, in their order; a failure is passed on before it is raised.

        A rank that raised at once would leave the others waiting.
        """
        mine, failure = None, None
        try:
            mine = compute()
        except Exception as error:
            failure = error
        text = None if failure is None else f"{type(failure).__name__}: {failure}"
        everyone: list[Any] = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(everyone, (mine, text), group=self.group)
        if failure is not None:
            raise failure
        for rank, (_, reason) in enumerate(everyone):
            if reason is not None:
                raise RuntimeError(f"rank {rank} failed, so no rank decides: {reason}")
        return [answer for answer, _ in everyone]


def _merged(answers: Iterable[Answer | None]) -> Answer | None:
    found: Answer | None = None
    for answer in answers:
        if answer is not None:
            found = answer if found is None else found.merge(answer)
    return found
