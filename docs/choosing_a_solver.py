"""Measure every solver's error and time: ``python docs/choosing_a_solver.py``, some two minutes.

Writes choosing-a-solver.png and the tables of choosing-a-solver.md. A *row* is one random
probability image, decided and then scored exactly: regret = best exact score - exact score of the
solver's mask.
"""

import math
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from rankseg import RankSEG, Segmentation, expected_score
from rankseg.decision import AUTO_MU

HERE = Path(__file__).parent
MUS = (0.3, 1, 3, 10, 30, 64, 100, 128, 200, 300, 1000, 3000, 10000)
SHOWN = (0.3, 1, 3, 10, 30, 100, 300, 1000, 10000)  # columns of the tables
SWITCH = (30, 64, 100, 128, 200, 300)  # more rows here: where solver='auto' may switch
SOLVERS = ("TR", "RMA", "BA", "TRNA", "BA+TRNA")
SAME = ("TRNA", "BA+TRNA")  # as BA, for IoU
NAMES = {"TR": "0.5 cut", "dice": "Dice", "iou": "IoU"}
NOTHING = 1e-10  # smaller errors are rounding: shown as 0
ROWS, BIG_ROWS, SWITCH_ROWS, FLAT_ROWS = 36, 12, 150, 40
REPEATS = 9
SIDES = (64, 256, 512)
STYLE = {  # Okabe and Ito's palette, and a marker each: readable without colour
    "TR": ("#999999", "s"),
    "RMA": ("#0072b2", "o"),
    "BA": ("#e69f00", "^"),
    "TRNA": ("#cc79a7", "D"),
    "exact": ("#000000", "X"),
}


# ---- random rows -------------------------------------------------------------------------------


def with_mean(shifted: Callable[[float], Tensor], mu: float) -> Tensor:
    """Row whose probabilities sum to mu, by bisection over the shift."""
    low, high = -1e4, 1e4
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float(shifted(middle).sum()) < mu else (low, middle)
    return shifted(high)


def blob(mu: float, side: int, random: np.random.Generator, blur: float, peak: float) -> Tensor:
    """Round object: ``blur`` = width of its edge in radii, ``peak`` = largest logit."""
    y, x = np.mgrid[:side, :side] - side / 2 + random.uniform(0, 1, (2, 1, 1))
    radius = torch.from_numpy(np.hypot(x, y))
    width = max(blur * math.sqrt(mu / math.pi), 0.1)
    return with_mean(lambda r: torch.sigmoid(((r - radius) / width).clamp(max=peak)), mu)


def confident(mu: float, side: int, random: np.random.Generator) -> Tensor:
    """Blob with a narrow edge and probabilities of 0.95 and more inside."""
    return blob(mu, side, random, random.uniform(0.03, 0.3), random.uniform(3, 7))


def uncertain(mu: float, side: int, random: np.random.Generator) -> Tensor:
    """Blob with a wide edge and probabilities of 0.38 to 0.82 inside."""
    return blob(mu, side, random, random.uniform(0.3, 1.5), random.uniform(-0.5, 1.5))


def noise(mu: float, side: int, random: np.random.Generator) -> Tensor:
    """Unrelated normal logits, from nearly equal to nearly certain."""
    logits = torch.from_numpy(random.normal(size=(side, side)) * 10 ** random.uniform(-0.5, 1))
    return with_mean(lambda shift: torch.sigmoid(logits + shift), mu)


def flat(mu: float, side: int, random: np.random.Generator) -> Tensor:
    """Two regions of equal pixels; whether the second is worth taking is a near tie for RMA.

    The tie is at S/(V + mu + 1) for Dice and S/(V + mu) for IoU: one of them, at random.
    """
    while True:
        sure, share = random.uniform(0.05, 1), random.uniform(0.02, 1)
        first = max(1, round(mu * share / sure))
        tie = first * sure / (first + mu + random.integers(2))
        tie *= 1 + random.normal() * 10 ** random.uniform(-3, -1)
        second = round(max(mu - first * sure, 0) / tie)
        if first + second <= side**2:
            row = torch.zeros(side**2, dtype=torch.float64)
            row[: first + second] = min(tie, 1.0)
            row[:first] = sure
            return row.view(side, side)


FAMILIES = (confident, uncertain, noise)


def side_for(mu: float) -> int:
    """Smallest image in use that leaves room around the object."""
    return next(side for side in (64, 128, 256) if side**2 >= 6 * mu)


def rows(mu: float, count: int, side: int, families: Iterable[Callable[..., Tensor]]) -> Iterator:
    """Rows, the families in turn; the same on every run."""
    random = np.random.default_rng(round(mu * 10))
    chosen = tuple(families)
    return (chosen[i % len(chosen)](mu, side, random)[None, None] for i in range(count))


# ---- error -------------------------------------------------------------------------------------


class Error(NamedTuple):
    """One row decided by one solver."""

    regret: float
    relative: float
    estimate: float  # |solver's expected score - exact one of its mask|


def decide(probs: Tensor, metric: str, solver: str, **parameters: float) -> Segmentation:
    """Mask of one row; no class is skipped."""
    chooser = RankSEG(metric, "multilabel", solver=solver, pruning_prob=0.0, **parameters)
    return chooser.solve(probs)


class Judge:
    """Exact scores of one row's masks; equal masks are scored once."""

    def __init__(self, probs: Tensor, metric: str) -> None:
        self.probs, self.metric = probs, metric
        best = decide(probs, metric, "exact")
        self.best = best.expected_score.item()
        self._known = {best.volume.item(): self.best}

    def error(self, solver: str, **parameters: float) -> Error:
        """Error of a solver's mask."""
        found = decide(self.probs, self.metric, solver, **parameters)
        volume = found.volume.item()  # masks of all solvers are nested: same volume, same mask
        if volume not in self._known:
            score = expected_score(self.probs, found.prediction, self.metric).item()
            self._known[volume] = score
        regret = max(self.best - self._known[volume], 0.0)
        difference = abs(found.expected_score.item() - self._known[volume])
        return Error(regret, regret / self.best, difference)


Errors = dict[tuple[str, str, float], np.ndarray]  # (metric, solver, mu) -> (rows, 3)


def errors(
    mus: Iterable[float],
    solvers: Iterable[str],
    count: Callable[[float], int],
    families: Iterable[Callable[..., Tensor]] = FAMILIES,
) -> Errors:
    """Errors of the solvers on random rows."""
    out: Errors = {}
    for metric in ("dice", "iou"):
        for mu in mus:
            judges = [Judge(p, metric) for p in rows(mu, count(mu), side_for(mu), families)]
            for solver in (s for s in solvers if metric == "dice" or s not in SAME):
                out[metric, solver, mu] = np.array([judge.error(solver) for judge in judges])
    return out


def size_errors() -> dict[tuple[float, int], float]:
    """RMA's mean relative regret (Dice) by object and image size."""
    return {
        (mu, side): float(
            np.mean([Judge(p, "dice").error("RMA").relative for p in rows(mu, 9, side, FAMILIES)])
        )
        for mu in (10, 100)
        for side in SIDES
    }


def eps_errors() -> dict[tuple[float, float], np.ndarray]:
    """Mean (regret, relative, estimate) of TRNA by (eps, mu), Dice."""
    judges = {mu: [Judge(p, "dice") for p in rows(mu, 18, 64, FAMILIES)] for mu in (3, 30, 300)}
    return {
        (eps, mu): np.mean([judge.error("TRNA", eps=eps) for judge in some], axis=0)
        for mu, some in judges.items()
        for eps in (1e-2, 1e-4, 1e-8)
    }


def overconfident(factor: float = 1.2) -> str:
    """What logits that are too large by a factor cost an exact solver, mu = 100, Dice."""
    lost, shift = [], []
    for probs in rows(100, ROWS, side_for(100), FAMILIES):
        found = decide(torch.sigmoid(torch.logit(probs) * factor), "dice", "exact")
        best = decide(probs, "dice", "exact").expected_score.item()
        score = expected_score(probs, found.prediction, "dice").item()
        lost.append((best - score) / best)
        shift.append(abs(found.expected_score.item() - score))
    return (
        f"Logits that are {factor - 1:.0%} too large, mu = 100: the exact solver's mask loses "
        f"{short(float(np.mean(lost)))} of the Dice (worst row {short(max(lost))}), and the Dice "
        f"it expects is off by {short(float(np.mean(shift)))} ({short(max(shift))})."
    )


def reached(found: Errors, metric: str, level: float, summary: Callable[..., float]) -> str:
    """Expected volume from which RMA's relative regret stays below the level (log-log line)."""
    points = [(mu, summary(found[metric, "RMA", mu][:, 1])) for mu in MUS]
    last = max(i for i, (_, value) in enumerate(points) if value >= level)
    (mu, value), (next_mu, next_value) = points[last], points[last + 1]
    part = math.log(value / level) / math.log(value / next_value)
    return f"{mu * (next_mu / mu) ** part:.0f}"


# ---- time --------------------------------------------------------------------------------------


def times() -> dict[tuple[str, float, int], np.ndarray]:
    """Milliseconds of one float32 row: (solver, mu, side) -> (repeats,), solvers interleaved."""
    taken = {}
    for mu in (10, 1000):
        for side in SIDES:
            probs = uncertain(mu, side, np.random.default_rng(0)).float()[None, None]
            cells = [[_milliseconds(probs, s) for s in (*SOLVERS, "exact")] for _ in range(REPEATS)]
            for solver, column in zip((*SOLVERS, "exact"), np.array(cells).T, strict=True):
                taken[solver, mu, side] = column
    return taken


def _milliseconds(probs: Tensor, solver: str) -> float:
    chooser = RankSEG("dice", "multilabel", solver=solver, pruning_prob=0.0)
    start = time.perf_counter()
    chooser(probs)
    return 1000 * (time.perf_counter() - start)


def processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


# ---- tables ------------------------------------------------------------------------------------


def short(number: float) -> str:
    """Two digits at most."""
    if number < NOTHING:
        return "0"
    return f"{number:.2g}" if number >= 0.001 else f"{number:.0e}".replace("e-0", "e-")


def table(head: Iterable[str], body: Iterable[Iterable[str]]) -> str:
    """Markdown."""
    lines = [tuple(head), *map(tuple, body)]
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def error_table(found: Errors, metric: str, column: int) -> str:
    """Mean and worst of one error, solvers by mu."""
    body = []
    for solver in dict.fromkeys(key[1] for key in found if key[0] == metric):
        cells = [found[metric, solver, mu][:, column] for mu in SHOWN]
        texts = (f"{short(cell.mean())} ({short(cell.max())})" for cell in cells)
        body.append((title(solver, metric), *texts))
    return table((f"{NAMES[metric]}, mu =", *(f"{mu:,}" for mu in SHOWN)), body)


def title(solver: str, metric: str) -> str:
    """Name of a row; for IoU, BA stands for the solvers that coincide with it."""
    return "BA = TRNA" if (solver, metric) == ("BA", "iou") else NAMES.get(solver, solver)


def switch_table(found: Errors) -> str:
    """From which mu on RMA is good enough."""
    levels = (1e-3, 1e-4, 1e-5)
    body = [
        (NAMES[metric], name, *(reached(found, metric, level, summary) for level in levels))
        for metric in ("dice", "iou")
        for name, summary in (("mean", np.mean), ("worst row", np.max))
    ]
    return table(
        ("RMA's relative regret", "", *(f"below {short(level)}" for level in levels)), body
    )


def time_table(taken: dict[tuple[str, float, int], np.ndarray]) -> str:
    """Median milliseconds, and the median ratio to RMA within a repeat."""
    columns = [(mu, side) for side in SIDES for mu in (10, 1000)]
    body = []
    for solver in (*SOLVERS, "exact"):
        cells = ((taken[(solver, *column)], taken[("RMA", *column)]) for column in columns)
        texts = (f"{np.median(own):.1f} ({np.median(own / rma):.1f}x)" for own, rma in cells)
        body.append((NAMES.get(solver, solver), *texts))
    return table(("image, mu =", *(f"{side}x{side}, {mu:,}" for mu, side in columns)), body)


def size_table(found: dict[tuple[float, int], float]) -> str:
    """RMA's error by object and image size."""
    body = [(f"mu = {mu}", *(short(found[mu, side]) for side in SIDES)) for mu in (10, 100)]
    return table(("image", *(f"{side}x{side}" for side in SIDES)), body)


def eps_table(found: dict[tuple[float, float], np.ndarray]) -> str:
    """Mean relative regret and estimate error by eps."""

    def cell(eps: float, mu: float) -> str:
        _, regret, estimate = found[eps, mu]
        return f"{short(regret)}, {short(estimate)}"

    body = [
        (f"{eps:.0e}".replace("e-0", "e-"), *(cell(eps, mu) for mu in (3, 30, 300)))
        for eps in (1e-2, 1e-4, 1e-8)
    ]
    return table(("eps, mu =", "3", "30", "300"), body)


def setup() -> str:
    """When and where."""
    return (
        f"Measured {date.today()}, one thread of an {processor()} shared with other work, "
        f"torch {torch.__version__.partition('+')[0]}."
    )


def auto(found: Errors) -> str:
    """Where ``solver='auto'`` switches."""
    dice, iou = (found[metric, "RMA", min(SWITCH, key=_from_switch)] for metric in ("dice", "iou"))
    return (
        f"Classes of an image with an expected volume below {AUTO_MU:g} pixels are decided "
        f"exactly, the others by RMA. At the switch the worst of {len(dice)} rows loses "
        f"{short(dice[:, 1].max())} of its Dice and {short(iou[:, 1].max())} of its IoU by RMA; "
        f"RMA's estimate of the score is off by {short(dice[:, 2].max())} and "
        f"{short(iou[:, 2].max())} there."
    )


def _from_switch(mu: float) -> float:
    return abs(math.log(mu / AUTO_MU))


def write(blocks: dict[str, str]) -> None:
    """Print the blocks and put each between its markers in the page."""
    page = HERE / "choosing-a-solver.md"
    text = page.read_text()
    for name, block in blocks.items():
        print(f"\n{name}\n{block}")
        begin, end = f"<!-- {name} -->\n\n", f"\n\n<!-- end {name} -->"
        before, rest = text.split(begin)
        text = before + begin + block + end + rest.partition(end)[2]
    page.write_text(text)


# ---- plot --------------------------------------------------------------------------------------


def draw(found: Errors, taken: dict[tuple[str, float, int], np.ndarray]) -> None:
    """Regret for Dice and IoU, error of the estimate, time."""
    plt.rcParams.update({"font.size": 14, "axes.titlesize": 16, "lines.markersize": 7})
    figure, axes = plt.subplots(2, 2, figsize=(14.5, 11))
    draw_errors(axes[0, 0], found, "dice", 1, "Dice lost by the mask", -10)
    draw_errors(axes[0, 1], found, "iou", 1, "IoU lost by the mask (here BA = TRNA)", -10)
    draw_errors(axes[1, 0], found, "dice", 2, "Error of the reported expected Dice", -8)
    draw_times(axes[1, 1], taken)
    lines, names = axes[1, 1].get_legend_handles_labels()
    lines += [plt.Line2D([], [], color="black", ls=ls, lw=2) for ls in ("-", ":")]
    names += ["mean over rows", "worst row"]
    figure.tight_layout(rect=(0, 0.05, 1, 1), h_pad=2, w_pad=2)
    figure.legend(lines, names, loc="lower center", ncols=7, frameon=False)
    figure.savefig(HERE / "choosing-a-solver.png", dpi=90)


def draw_errors(
    axis: plt.Axes, found: Errors, metric: str, column: int, title: str, lowest: int
) -> None:
    """Mean (solid) and worst (dotted) against mu; below 10^lowest is drawn as 0."""
    floor = 10.0**lowest
    solvers = ("TR", "RMA", "BA", "TRNA") if column == 1 else ("RMA", "BA", "TRNA")
    for solver in (s for s in solvers if metric == "dice" or s not in SAME):
        colour, marker = STYLE[solver]
        cells = [found[metric, solver, mu][:, column] for mu in MUS]
        mean = np.clip([cell.mean() for cell in cells], floor, None)
        worst = np.clip([cell.max() for cell in cells], floor, None)
        axis.loglog(MUS, mean, color=colour, marker=marker, lw=2.2)
        axis.loglog(MUS, worst, color=colour, marker=marker, ls=":", lw=1.6, ms=4)
    if column == 1:
        axis.axvline(AUTO_MU, color="black", lw=1)
        axis.text(AUTO_MU * 1.15, 0.03, "'auto': RMA from here on", fontsize=12)
    axis.set(title=title, xlabel="object size: expected volume mu (pixels)", ylim=(floor / 2, 3))
    powers = range(lowest, 1, 2)
    axis.set_yticks([10.0**power for power in powers])
    axis.set_yticklabels(["0", *(f"$10^{{{power}}}$" for power in powers[1:])])
    axis.set_ylabel("share of the best score" if column == 1 else "absolute error")
    axis.minorticks_off()
    finish(axis)


def draw_times(axis: plt.Axes, taken: dict[tuple[str, float, int], np.ndarray]) -> None:
    """Median time against pixels."""
    pixels = [side**2 for side in SIDES]
    for solver, (colour, marker) in STYLE.items():
        medians = [np.median(taken[solver, 10, side]) for side in SIDES]
        axis.loglog(
            pixels, medians, color=colour, marker=marker, lw=2.2, label=NAMES.get(solver, solver)
        )
    axis.set(title="Time of one row (Dice, mu = 10)", xlabel="image", ylabel="milliseconds")
    axis.set_xticks(pixels, [f"{side} x {side}" for side in SIDES])
    axis.minorticks_off()
    finish(axis)


def finish(axis: plt.Axes) -> None:
    """Quiet grid and frame."""
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Measure, draw, write."""
    torch.set_num_threads(1)
    taken = times()
    found = errors(MUS, SOLVERS, lambda mu: BIG_ROWS if mu > 1000 else ROWS)
    more = errors(SWITCH, ("RMA",), lambda mu: SWITCH_ROWS)
    built = errors(SHOWN, ("RMA", "BA", "TRNA"), lambda mu: FLAT_ROWS, (flat,))
    own = {key: value for key, value in found.items() if key[1] != "TR"}  # TR reports as RMA
    draw(found, taken)
    write(
        {
            "setup": setup(),
            "dice": error_table(found, "dice", 1),
            "iou": error_table(found, "iou", 1),
            "auto": auto(more),
            "overconfident": overconfident(),
            "switch": switch_table(found | more),
            "sizes": size_table(size_errors()),
            "estimate": error_table(own, "dice", 2),
            "estimate-iou": error_table(own, "iou", 2),
            "time": time_table(taken),
            "eps": eps_table(eps_errors()),
            "flat": error_table(built, "dice", 1),
            "flat-iou": error_table(built, "iou", 1),
            "absolute": error_table(found, "dice", 0),
            "absolute-iou": error_table(found, "iou", 0),
        }
    )


if __name__ == "__main__":
    main()
