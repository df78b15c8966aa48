"""The harness that runs the pages sees everything, and nothing broken passes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import Page, blocks

NESTED = """\
````{tab-set}
```{tab-item} one
~~~python
first = 1
~~~
```
````

:::{note}
```python
second = first
```
:::

- in a list

  ```{code-block} python
  :emphasize-lines: 1

  third = second + 1
  ```

```{eval-rst}
.. autosummary::

   rankseg.RankSEG
```

    indented
"""


def page(folder: Path, text: str) -> Page:
    path = folder / "page.md"
    path.write_text(text)
    return Page(path, folder)


def fenced(label: str, code: str) -> str:
    return f"text\n```{label}\n{code}\n```\n"


def test_blocks_are_seen_wherever_they_are() -> None:
    found = [(block.language, block.first, block.above) for block in blocks(NESTED)]
    assert found[:2] == [("python", "first = 1", 3), ("python", "second = first", 10)]
    assert found[2][:2] == ("python", "third = second + 1")
    assert found[3][:2] == ("", "indented"), "which is refused: it has no label"
    assert len(found) == 4


def test_one_namespace_and_the_lines_of_the_page(tmp_path: Path) -> None:
    shown = page(tmp_path, NESTED.replace("    indented", "") + fenced("python", "third / 0"))
    with pytest.raises(ZeroDivisionError) as broken:
        shown.run()
    assert [names.get("third") for names in shown.after] == [None, None, 2]
    last = broken.traceback[-1]
    assert (Path(last.path).name, last.lineno + 1) == ("page.md", shown.text.count("\n") - 1)


@pytest.mark.parametrize(
    ("label", "code", "error", "message"),
    [
        ("python", "unknown", NameError, "unknown"),
        ("python", "def f(:", SyntaxError, "page.md"),
        ("python", ">>> 1 + 1\n3", AssertionError, "Expected"),
        ("pyton", "x = 1", AssertionError, "pyton"),
        ("yaml", "a: [1", Exception, "flow sequence"),
        ("yaml", "class_path: rankseg.RankSEGG", AssertionError, "RankSEGG"),
        ("json", "{'a': 1}", ValueError, "property name"),
        ("console", "$ rankseg predict nothing --output there", AssertionError, "nothing"),
        ("console", "$ rankseg bench \\\n  --no-such", AssertionError, "no-such"),
        ("console", "kubectl apply", AssertionError, "no test runs 'kubectl apply'"),
        ("console", '$ pip install "rankseg[monay]"', AssertionError, "monay"),
        ("console", "$ make everything", AssertionError, "everything"),
        ("console", "$ python examples/no.py", AssertionError, "no.py"),
    ],
)
def test_what_is_broken_is_noticed(
    label: str, code: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        page(tmp_path, fenced(label, code)).run()


def test_what_is_whole_passes(tmp_path: Path) -> None:
    text = fenced("python", ">>> x = 2\n>>> x + 1\n3") + fenced("python", "assert x == 2")
    text += fenced("console", "$ rankseg --version\nrankseg\n$ pip install '.[demo,files]'  # both")
    text += fenced("text", "anything") + fenced("json", "[1]")
    shown = page(tmp_path, text + fenced("console", "$ rankseg bench --quick"))
    shown.not_run["rankseg bench --quick"] = "takes long"
    shown.run()
    assert shown.printed["rankseg --version"].startswith("rankseg ")


def test_a_command_that_is_not_run_has_options_that_exist(tmp_path: Path) -> None:
    shown = page(tmp_path, fenced("console", "$ rankseg bench --quicker"))
    shown.not_run["rankseg bench --quicker"] = "takes long"
    with pytest.raises(Exception, match="quicker"):
        shown.run()
