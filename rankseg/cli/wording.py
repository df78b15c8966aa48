"""What messages for Python say of arguments, said of options."""

from __future__ import annotations

import re
from dataclasses import fields

from rankseg.cli.groups import PairOptions, RuleOptions, ScoreOptions

ARGUMENTS = {"probs", "labels"}
OPTIONS = {
    *(field.name for kind in (PairOptions, RuleOptions, ScoreOptions) for field in fields(kind)),
    *("class_names", "confidence", "folds", "thresholds", "solvers", "couplings", "calibrations"),
} - ARGUMENTS
NAME = f"(?P<name>{'|'.join(sorted(OPTIONS, key=len, reverse=True))})"
ALONE = r"(?<![\w./-])", r"(?![\w/-]|\.\w)"
"""Neither part of another word nor of a file's name."""
VALUE = r"(?P<value>'[^']*'(?: or '[^']*')*|\([^()]*\)|\[[^\[\]]*\]|-?[\w.]*\w)"

GIVEN = re.compile(f"{ALONE[0]}{NAME}={VALUE}")
QUOTED = re.compile(f"'{NAME}'")
UNDERSCORED = re.compile(f"{ALONE[0]}(?=\\w+_){NAME}{ALONE[1]}")
SCALED = re.compile(r"\bdivide by (\d+) if")
FIRST = re.compile(f"^{NAME}(?= (?:must|is|has|count) )")


def as_typed(message: str) -> str:
    """``name='value'`` as ``--name value``, and names of arguments as options."""
    message = SCALED.sub(r"say --scale \1 if", GIVEN.sub(_given, message))
    quoted = (QUOTED,) if "takes no parameter" in message else ()  # else of what was typed, or read
    for pattern in (*quoted, UNDERSCORED, FIRST):
        message = pattern.sub(lambda found: _option(found["name"]), message)
    return message


def _given(found: re.Match[str]) -> str:
    name, value = _option(found["name"]), found["value"]
    if value in ("True", "False"):
        return name if value == "True" else f"--no-{name[2:]}"
    plain = value.replace("'", "")
    return f"{name} {plain.strip('()[]').replace(', ', ',') if plain[:1] in '([' else plain}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
