"""Limits, comparison with a stored run, JSON, tables, warnings: from made-up results."""

import io
import json

import pytest
from rich.console import Console

from rankseg.bench import check, machine, report, targets
from rankseg.bench.cases import LABELS, MASKS, OF_LOGITS, PEER, PEER_AUTO
from rankseg.bench.first_call import FirstCall
from rankseg.bench.growth import Growth
from rankseg.bench.memory import Memory
from rankseg.bench.results import Results, save
from rankseg.bench.spread import Spread
from rankseg.bench.times import Timing

CITY, SMALL = "1x19x512x1024", "1x2x64x64"
SETUP = {
    **{"date": "2026-01-02T03:04:05+00:00", "processor": "A processor", "cores": 2},
    **{"memory_bytes": 8 * 2**30, "system": "Linux 6", "device": "cpu", "load": 0.1},
    **{"maps": "noise", "quick": False, "versions": {"rankseg": "1.2.3", "torch": "2.9.0"}},
}


def spread(number):
    return Spread(number, 0.9 * number, 1.1 * number)


def timing(name, milliseconds, shape=CITY, threads=2, **ratios):
    named = {key.replace("_", " "): spread(value) for key, value in ratios.items()}
    if "torch argmax" in named:
        named["torch.argmax"] = named.pop("torch argmax")
    if "logits argmax" in named:
        named["torch.argmax" + OF_LOGITS] = named.pop("logits argmax")
    return Timing(shape, threads, name, 7, spread(milliseconds / 1e3), named)


def run(factor=1.0):
    """Results whose every cost is ``factor`` times what is just allowed."""
    return Results(
        setup=SETUP,
        times=[
            timing("torch.argmax", 100, torch_argmax=1),
            timing(LABELS, 35 * factor, torch_argmax=0.35 * factor),
            timing(LABELS, 99, threads=1, torch_argmax=99),
            timing(MASKS, 9, torch_argmax=0.1, Dice_labels=0.5 * factor),
            timing(LABELS + OF_LOGITS, 90, logits_argmax=1.0 * factor),
            timing(PEER, 1, torch_argmax=9, Dice_labels=35 / factor),
            timing(PEER_AUTO, 1, torch_argmax=9, Dice_labels=14 / factor),
            timing(LABELS, 0.3 * factor, SMALL),
        ],
        memory=[
            Memory(CITY, LABELS, 1000, 500, round(150 * factor)),
            Memory(CITY, MASKS, 1000, 500, round(150 * factor)),
            Memory(CITY, PEER, 1000, 500, 9000),
        ],
        first_calls=[FirstCall(LABELS, 15 * factor, 1 * factor, 0.02)],
        growth=Growth([timing(LABELS, 1, "1x2x32x32")], {LABELS: 1.1 * factor}, ["1x2x64x64"]),
    )


def test_limits_are_held_up_to_the_limit_and_missed_beyond():
    just, beyond = targets.judge(run(0.999)), targets.judge(run(1.01))
    assert len(just) == len(beyond) == 11
    assert all(one.held for one in just)
    assert not any(one.held for one in beyond)


def test_limits_are_those_of_the_project():
    found = {(one.name, one.case): one.limit for one in targets.judge(run())}
    assert found["Dice labels to torch.argmax", CITY] == 0.35
    assert found[f"Dice labels faster than {PEER}", CITY] == 35
    assert found[f"Dice labels faster than {PEER_AUTO}", CITY] == 14
    assert found["Dice masks to Dice labels", CITY] == 0.5
    assert found["small input, warm", SMALL] == 300
    assert found["extra memory, Dice masks", CITY] == 15


def test_what_was_not_measured_is_not_judged():
    assert targets.judge(Results(SETUP)) == []
    only_one_thread = Results(SETUP, times=[timing(LABELS, 1, threads=1, torch_argmax=9)])
    assert targets.judge(only_one_thread) == []


# ---- against a stored run ----------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "stored.json"
    save(path, run(), [])
    return path


def test_the_same_ratios_are_no_regression(stored):
    assert check.regressions(run(), check.load(stored)) == (5, [])


def test_ratios_may_grow_by_half(stored):
    assert check.regressions(run(1.49), check.load(stored)) == (5, [])
    compared, worse = check.regressions(run(1.6), check.load(stored))
    assert compared == 5
    assert [(one.name, one.to) for one in worse] == [
        (LABELS, "torch.argmax"),
        (MASKS, LABELS),
        (LABELS + OF_LOGITS, "torch.argmax" + OF_LOGITS),
    ]
    assert str(worse[0]) == (
        f"{CITY}, threads 2: Dice labels takes 0.56 x torch.argmax, 1.6 times the stored 0.35"
    )


def test_the_peer_may_change(stored):
    slower_peer = run()
    slower_peer.times[5] = timing(PEER, 1, torch_argmax=900, Dice_labels=900)
    assert check.regressions(slower_peer, check.load(stored)) == (5, [])


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1}', '{"format": 1, "times": [3]}'])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is no result of rankseg bench"):
        check.load(path)


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"format": 99}')
    with pytest.raises(ValueError, match="has format 99, this version reads 1"):
        check.load(path)


# ---- what is written and shown -----------------------------------------------------------------


def test_json_is_whole_and_rounded(tmp_path):
    path = tmp_path / "x.json"
    found = run()
    found.times[0] = timing("torch.argmax", 123.456789, torch_argmax=1)
    save(path, found, [{"name": "a limit", "held": False}])
    table = json.loads(path.read_text())
    assert list(table) == [
        *("format", "setup", "times", "memory", "first_calls", "growth", "notes", "targets")
    ]
    assert table["times"][0]["seconds"] == {"median": 0.1235, "p10": 0.1111, "p90": 0.1358}
    assert table["memory"][0] == {
        **{"shape": CITY, "name": LABELS, "input": 1000, "result": 500, "extra": 150}
    }
    assert table["targets"] == [{"name": "a limit", "held": False}]


def shown(results, width):
    console = Console(file=io.StringIO(), width=width)
    report.show(results, targets.judge(results), console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width):
    found = run(1.01)
    found.times.append(Timing(CITY, 2, PEER, 0, None, {}, "TypeError: no such thing"))
    text = shown(found, width)
    assert max(map(len, text.splitlines())) <= width
    words = ("p10", "x argmax", "x labels", "extra", "15.2%", "missed", "pixels^1.11")
    assert [
        word for word in (*words, "does not fit", "1 thread", "2 threads") if word not in text
    ] == []
    assert "…" not in text  # nothing is cut off


def test_a_held_limit_is_said_so():
    assert "missed" not in shown(run(0.99), 100)
    assert shown(run(0.99), 100).count("held") == 11


@pytest.mark.parametrize(("load", "busy"), [(0.4, False), (0.6, True), (None, False)])
def test_a_busy_machine_is_said_so(load, busy):
    setup = {**SETUP, "load": load}
    assert (machine.warning(setup) is not None) is busy
    assert ("was busy" in shown(Results(setup), 100)) is busy


def test_the_machine_is_described():
    found = machine.describe("cpu")
    assert found["cores"] >= 1
    assert found["processor"]
    assert {"rankseg", "python", "torch", "numpy", "numba"} <= set(found["versions"])
