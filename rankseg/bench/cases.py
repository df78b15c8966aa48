"""What is measured: shapes of maps, and who decides them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rankseg.bench.peer import VERSION

USUAL = (
    *("1x19x512x1024", "2x21x512x512", "1x150x512x512", "1x2x1024x1024"),
    *("1x3x128x128x128", "1x2x64x64", "1x1x1024x1024"),
)
"""Cityscapes, two VOC images, ADE20K, one object, a volume, a small map; one channel (masks)."""

QUICK = ("1x19x512x1024", "1x2x1024x1024", "1x2x64x64")
MAPS = ("noise", "smooth")
METRICS = {"Dice": "dice", "IoU": "iou"}
LABELS, MASKS = "Dice labels", "Dice masks"
OF_LOGITS = ", logits"
PEER = f"peer {VERSION}"
PEER_AUTO = f"{PEER}, auto"


@dataclass(frozen=True)
class Contender:
    """One way to decide, or a yardstick.

    ``call`` is what ``worker.py`` is asked to do; ``against`` names the contenders of the same case
    that its time is divided by, the first being the one it replaces.
    """

    name: str
    call: dict[str, Any]
    against: tuple[str, ...]
    peer: bool = False

    @property
    def decides(self) -> bool:
        """Whether it is RankSEG, ours or the peer's."""
        return bool(self.call["name"] == "RankSEG")


def parse_shape(text: str) -> tuple[int, ...]:
    """Shape of a case written as ``1x19x512x1024``."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){2,4}", text):
        raise ValueError(
            "--case must be batch, classes and one to three sides, such as "
            f"{', '.join(USUAL)}; got {text!r}"
        )
    return tuple(map(int, text.split("x")))


def yardstick(shape: tuple[int, ...]) -> str:
    """Name of what users replace: argmax, or for one channel the 0.5 cut."""
    return "torch.argmax" if shape[1] > 1 else "0.5 cut"


def contenders(shape: tuple[int, ...], peer: bool) -> list[Contender]:
    """Everybody who takes part in a case."""
    usual = yardstick(shape)
    if shape[1] > 1:
        of_logits = usual + OF_LOGITS
        found = [
            Contender(usual, _plain("argmax"), (usual,)),
            Contender(of_logits, _plain("argmax", "logits"), (of_logits,)),
            Contender("torch.softmax", _plain("softmax", "logits"), (of_logits,)),
        ]
    else:
        of_logits = usual
        found = [
            Contender(usual, _plain("cut"), (usual,)),
            Contender("torch.sigmoid", _plain("sigmoid", "logits"), (usual,)),
        ]
    for title, metric in METRICS.items():
        for suffix, against in (("", usual), (OF_LOGITS, of_logits)):
            labels, masks = f"{title} labels{suffix}", f"{title} masks{suffix}"
            both = (against, labels) if shape[1] > 1 else (against,)
            if shape[1] > 1:
                options = _options(metric, "multiclass", "softmax" if suffix else "none")
                found.append(Contender(labels, options, (against,)))
            options = _options(metric, "multilabel", "sigmoid" if suffix else "none")
            found.append(Contender(masks, options, both))
    return found + (_peers(shape) if peer else [])


def _peers(shape: tuple[int, ...]) -> list[Contender]:
    """The published package, for labels (masks of one channel), as it comes and at its fastest."""
    mode, ours = ("multiclass", LABELS) if shape[1] > 1 else ("multilabel", MASKS)
    options = {"metric": "dice", "solver": "RMA", "output_mode": mode}
    ways = {PEER: options, PEER_AUTO: {**options, "safe_screening": "auto"}}
    return [
        Contender(name, _plain("RankSEG", options=way), (yardstick(shape), ours), peer=True)
        for name, way in ways.items()
    ]


def _plain(name: str, values: str = "probs", options: dict[str, str] | None = None) -> Any:
    return {"name": name, "input": values, "options": options or {}}


def _options(metric: str, output_mode: str, activation: str) -> dict[str, Any]:
    values = "probs" if activation == "none" else "logits"
    options = {"metric": metric, "output_mode": output_mode, "activation": activation}
    return {"name": "RankSEG", "input": values, "options": options}
