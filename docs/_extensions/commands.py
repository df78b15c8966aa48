"""Everything that ``rankseg --help`` and its commands say, as a page of the site.

``{commands}`` writes a section for each command, from the same typer objects that print the help,
so the page cannot say anything else. Options are Sphinx's: each can be linked to and found.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from rankseg import cli


def sections() -> Iterator[str]:
    """Markdown of one command after the other."""
    group = typer.main.get_command(cli.app)
    context = group.make_context("rankseg", [], resilient_parsing=True)
    for name in group.list_commands(context):
        yield section(group.commands[name], f"rankseg {name}")


def section(command: Any, program: str) -> str:
    """Heading, usage, help and options of one command."""
    context = command.make_context(program, [], resilient_parsing=True)
    usage = " ".join([program, *command.collect_usage_pieces(context)])
    parts = [f"## {program.split()[-1]}", f"```text\n{usage}\n```", text(command.help)]
    parts += [f"```{{program}} {program}\n```"]
    parts += [entry(parameter, context) for parameter in command.params if not hidden(parameter)]
    return "\n\n".join(parts)


def hidden(parameter: Any) -> bool:
    """The same in every command."""
    return getattr(parameter, "hidden", False) or "--help" in parameter.opts


def entry(parameter: Any, context: Any) -> str:
    """One argument or option, with what its help says."""
    names, help_text = parameter.get_help_record(context)
    return f"````{{option}} {names}\n{text(help_text)}\n````"


def text(help_text: str) -> str:
    """Help as Markdown; options in it are code."""
    return re.sub(r"(?<![\w`])(--[a-z][\w-]*)", r"`\1`", inspect.cleandoc(help_text))


class Commands(SphinxDirective):
    """The ``{commands}`` directive."""

    def run(self) -> list[nodes.Node]:
        """Parse the sections where the directive stands."""
        for path in Path(cli.__file__).parent.glob("*.py"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes("\n\n".join(sections()), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
