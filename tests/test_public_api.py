"""Public names and the command line are what ``public_api.txt`` says; no change goes unseen.

``.venv/bin/python tests/test_public_api.py > tests/public_api.txt`` accepts a change.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

ROOT = Path(__file__).parents[1]
STORED = Path(__file__).with_name("public_api.txt")
MODULES = ["rankseg", "rankseg.functional", "rankseg.evaluation"]
ACCEPT = ".venv/bin/python tests/test_public_api.py > tests/public_api.txt"


def adapters() -> list[str]:
    """Modules of rankseg_integrations without an underscore."""
    found = pkgutil.iter_modules([str(ROOT / "rankseg_integrations")], "rankseg_integrations.")
    return sorted(module.name for module in found if "._" not in module.name)


def is_ours(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith("rankseg")


def names(module: ModuleType) -> list[str]:
    """What ``__all__`` lists, else what the module itself defines."""
    defined = [name for name, thing in vars(module).items() if is_ours(thing) and name[0] != "_"]
    own = [name for name in defined if vars(module)[name].__module__ == module.__name__]
    return sorted(getattr(module, "__all__", own))


def signature(name: str, call: Any) -> Iterator[str]:
    """A function's parameters and what it returns: in one line, or one parameter a line."""
    found = inspect.signature(call)
    shown = [word for word in parameters(found) if word not in ("self", "cls")]
    end = ")" if found.return_annotation is found.empty else f") -> {found.return_annotation}"
    line = f"{name}({', '.join(shown)}{end}"
    yield from (
        [line] if len(line) <= 100 else [f"{name}(", *(f"    {word}," for word in shown), end]
    )


def parameters(found: inspect.Signature) -> Iterator[str]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    positional = True
    for parameter in found.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and positional:
            yield "*"
        positional &= parameter.kind not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        yield f"{stars.get(parameter.kind, '')}{parameter.name}{kind}{default}"


def members(name: str, kind: type) -> Iterator[str]:
    """Public attributes that a class has from this project, not from a framework."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if is_ours(base):
            found |= dict.fromkeys(getattr(base, "__annotations__", {})) | dict(vars(base))
    for member in sorted(found):
        if member[0] != "_" or member == "__call__":
            value = inspect.getattr_static(kind, member, None)
            call = getattr(value, "__func__", value)
            if inspect.isfunction(call):
                yield from signature(f"{name}.{member}", call)
            else:
                yield f"{name}.{member}"


def describe(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        protocol = getattr(thing, "_is_protocol", False)  # nobody constructs one
        yield from [f"class {name}"] if protocol else signature(f"class {name}", thing)
        yield from members(name, thing)
    else:
        yield from signature(name, thing) if callable(thing) else [name]


def commands() -> Iterator[str]:
    """Every command of ``rankseg`` with its arguments and options."""
    app = typer.main.get_command(importlib.import_module("rankseg.cli").app)
    for name, command in {"": app, **app.commands}.items():
        yield f"$ rankseg {name}".rstrip()
        for parameter in command.params:
            spelled = "/".join([*parameter.opts, *parameter.secondary_opts])
            default = getattr(parameter.default, "value", parameter.default)
            yield f"    {spelled}" + ("" if default is None else f" = {default}")


def snapshot() -> str:
    lines = []
    for module in map(importlib.import_module, [*MODULES, *adapters()]):
        lines += ["", f"# {module.__name__}"]
        for name in names(module):
            lines += describe(f"{module.__name__}.{name}", getattr(module, name))
    return "\n".join([*lines[1:], "", "# command line", *commands(), ""])


def test_public_names_are_those_accepted() -> None:
    for framework in ("dask", "lightning", "monai", "nnunetv2", "segment_anything", "transformers"):
        pytest.importorskip(framework)
    changes = difflib.unified_diff(
        STORED.read_text().splitlines(), snapshot().splitlines(), "accepted", "now", lineterm=""
    )
    found = "\n".join(changes)
    assert not found, f"the public interface changed:\n{found}\nIf that is meant: {ACCEPT}"


if __name__ == "__main__":
    print(snapshot(), end="")
