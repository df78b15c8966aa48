"""Before and after have the size of the image; every family is named."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pages import Page

NEEDS = ("transformers",)


def around(page: Page) -> Iterator[None]:
    from rankseg_integrations.transformers.families import FAMILIES

    yield
    assert page.names["after"][0].shape == page.names["before"][0].shape == (60, 80)
    assert page.names["probs"].shape == (4, 60, 80)
    (table,) = re.findall(r"^## Families\n(.*?)^## ", page.text, re.MULTILINE | re.DOTALL)
    for name in (*FAMILIES, "seggpt"):
        assert re.search(rf"\b{name}\b", table), name
