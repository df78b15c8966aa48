"""Sorted rows and rows that stay in their field answer alike, and so do the solvers on them."""

import numpy as np
import pytest
from cases import METRICS, rows
from rows import KINDS, field_of

from rankseg.solvers.by_row import Method
from rankseg.solvers.row import FieldRow, SortedRow


def both(p):
    return SortedRow(np.sort(p)[::-1].copy()), FieldRow(field_of(p))


def test_reductions_agree():
    for p in rows(52, 300, seed=21):
        first, second = both(p)
        assert first.mean == pytest.approx(second.mean, rel=1e-12, abs=1e-300)
        for low, high in ((0.0, 1.0), (0.1, 0.6), (0.3, 0.3), (1e-7, 1e-3)):
            assert first.above(low)[1] == second.above(low)[1]
            np.testing.assert_array_equal(first.between(low, high), second.between(low, high))
            for name in ("moments", "chebyshev"):
                if low < high:
                    one, two = (getattr(row, name)(low, high) for row in (first, second))
                    np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-12)
        assert first.selected(0.4).mean == pytest.approx(second.selected(0.4).mean, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", ["exact", "BA", "TRNA"])
def test_solvers_agree(metric, method):
    for p in rows(39, 400, seed=22):
        objective = KINDS[metric](field_of(p).totals().mu, 0.5)
        one, two = (Method(method).best_mask(row, objective) for row in both(p))
        assert one.score == pytest.approx(two.score, rel=1e-9)
        assert one.volume == two.volume
