"""Taking turns, rounds, spreads, growth: with a clock that the tests set."""

import pytest

from rankseg.bench import growth, run
from rankseg.bench.cases import PEER, Contender, contenders
from rankseg.bench.first_call import measure as first_calls
from rankseg.bench.process import WorkerError
from rankseg.bench.results import Results
from rankseg.bench.spread import Spread
from rankseg.bench.times import SAMPLE, Effort, Timing, measure


def contender(name, *against, peer=False):
    return Contender(name, {"name": name, "input": "probs"}, against or (name,), peer)


ARGMAX, LABELS = contender("argmax"), contender("labels", "argmax")


def test_spread_of_known_numbers():
    assert Spread.of([5, 1, 2, 4, 3, 6, 7, 8, 9, 10, 0]) == Spread(5, 1, 9)


def test_ratios_are_of_the_same_round():
    # The machine is ten times slower from the second round on: no single ratio sees it.
    assert Spread.of_ratios([2, 20, 20], [4, 40, 40]) == Spread(0.5, 0.5, 0.5)


@pytest.mark.parametrize(("cost", "rounds"), [(100, 3), (2, 5), (1e-3, 20)])
def test_rounds_fill_the_time_within_bounds(cost, rounds):
    assert Effort(10, fewest=3, most=20).rounds(cost) == rounds


def test_contenders_take_turns_in_changing_order():
    calls = []

    def clock(one, number):
        calls.append(one.name)
        return 1.0

    found = measure("1x2x3", 2, [ARGMAX, LABELS], clock, Effort(1, 8, 8))
    warm, rounds = calls[:4], [tuple(calls[i : i + 2]) for i in range(4, 20, 2)]
    assert warm == ["argmax", "argmax", "labels", "labels"]
    assert len(calls) == 20
    assert set(rounds) == {("argmax", "labels"), ("labels", "argmax")}
    assert [(one.name, one.rounds, one.threads) for one in found] == [
        ("argmax", 8, 2),
        ("labels", 8, 2),
    ]


def test_the_first_call_is_no_sample_and_short_ones_are_repeated():
    seen, asked = [], []

    def clock(one, number):
        seen.append(one)
        asked.append(number)
        return 100.0 if len(seen) == 1 else SAMPLE / 4

    (found,) = measure("1x2x3", 1, [ARGMAX], clock, Effort(1, 5, 5))
    assert found.seconds == Spread(SAMPLE / 4, SAMPLE / 4, SAMPLE / 4)
    assert asked == [1, 1, 4, 4, 4, 4, 4]


def test_only_the_peer_may_fail():
    def clock(one, number):
        if one.name != "argmax":
            raise WorkerError("no such option")
        return 1.0

    peer = contender("theirs", "argmax", peer=True)
    found = measure("1x2x3", 1, [ARGMAX, peer], clock, Effort(1, 1, 1))
    assert found[1] == Timing("1x2x3", 1, "theirs", 0, None, {}, "no such option")
    with pytest.raises(WorkerError, match="no such option"):
        measure("1x2x3", 1, [ARGMAX, LABELS], clock, Effort(1, 1, 1))


def test_everyone_is_measured_against_someone_in_the_case():
    for shape in ((1, 19, 8, 8), (1, 1, 8, 8), (1, 3, 8, 8, 8)):
        everybody = contenders(shape, peer=True)
        names = [one.name for one in everybody]
        assert len(set(names)) == len(names)
        assert PEER in names
        assert all(set(one.against) <= set(names) for one in everybody)
        assert [one.name for one in everybody if one.peer] == names[-2:]
        assert not any(one.peer for one in contenders(shape, peer=False))


# ---- growth ------------------------------------------------------------------------------------


def at(power, seconds):
    shape = "x".join(map(str, growth.shapes(power)[-1]))
    return Timing(shape, 2, "labels", 3, Spread(seconds, seconds, seconds), {})


def test_sizes_are_the_powers_asked_for():
    powers = [growth.pixels("x".join(map(str, shape))) for shape in growth.shapes(26)]
    assert powers == [2**n for n in range(10, 27, 2)]
    assert growth.shapes(0) == []


def test_exponent_of_a_power_law_ignores_small_sizes():
    timings = [at(power, 1e-9 * 2 ** (1.25 * power)) for power in (16, 18, 20, 22)]
    assert growth.exponents([at(10, 1.0), at(14, 1.0), *timings])["labels"] == pytest.approx(1.25)
    assert growth.exponents([at(10, 1.0), *timings[:3]]) == {}


def plan(**changes):
    usual = {"shapes": (), "threads": (1,), "maps": "noise", "device": "cpu", "quick": True}
    return run.Plan(**{**usual, "largest": 10, "peer": None, **changes})


def test_a_size_that_does_not_fit_is_skipped_and_said(monkeypatch):
    monkeypatch.setattr(run.machine, "available_bytes", lambda: 1024 * growth.BYTES_PER_PIXEL - 1)
    going = run.Run(plan(), Results({}))
    for step in going.steps():
        step()
    assert going.results.growth == growth.Growth([], {}, ["1x2x32x32"])


# ---- first calls -------------------------------------------------------------------------------


class Fake:
    """A worker whose calls take 1, 2, 3, ... seconds."""

    def __init__(self, environment):
        self.started.append(environment)
        self.seconds = 10 * len(self.started)

    def ask(self, do, **request):
        self.seconds += 1
        return self.seconds

    def close(self):
        self.started[-1]["closed"] = True


def test_first_calls_are_of_two_processes_with_one_cache():
    Fake.started = []
    labels, masks = first_calls([ARGMAX, LABELS], lambda environment: Fake({**environment}))
    first, second = Fake.started
    assert first == second
    assert first["closed"]
    assert first["NUMBA_CACHE_DIR"] == second["NUMBA_CACHE_DIR"]
    assert (labels.name, labels.empty, labels.cached, labels.warm) == ("argmax", 12, 22, 24)
    assert (masks.name, masks.empty, masks.cached, masks.warm) == ("labels", 13, 23, 25)
