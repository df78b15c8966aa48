"""A process that measures: started, asked, and ended whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
OURS = str(HERE.parents[2])
START = """
import runpy, sys
if sys.argv[2]:
    sys.path.insert(0, sys.argv[2])  # the package that is running, not another that is installed
runpy.run_path(sys.argv[1], run_name="__main__")
"""


class WorkerError(RuntimeError):
    """A measurement that failed; one line says why."""


class Worker:
    """``worker.py`` in an interpreter of its own.

    Parameters
    ----------
    python : str or Path
        The interpreter.
    package : str
        Folder that ``import rankseg`` shall look into first; "" leaves that to the interpreter.
    environment : mapping of str to str
        Variables added to the process's environment.
    """

    def __init__(
        self, python: str | Path, package: str = OURS, environment: Mapping[str, str] | None = None
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, close() does
        self._process = subprocess.Popen(
            # -I: neither PYTHONPATH nor the current folder may bring another rankseg.
            [str(python), "-I", "-c", START, str(HERE.with_name("worker.py")), package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the command, which ends this process itself
        )

    def ask(self, do: str, **request: Any) -> Any:
        """Value of one request; WorkerError if it failed or the process died."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        try:
            print(json.dumps({"do": do, **request}), file=pipe_in, flush=True)
            line = pipe_out.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"the measuring process ended: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer["value"]

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {code}"

    def close(self) -> None:
        """End the process, whatever it is doing: it holds nothing that has to be saved."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            assert file is not None
            with suppress(BrokenPipeError):  # a request that nobody read
                file.close()
