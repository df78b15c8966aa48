"""Fields: whoever can answer a few reductions over the pixels can be solved."""

from rankseg.fields.base import NOTHING, Best, Field, LabelRule, Selection, Totals
from rankseg.fields.choose import field_for
from rankseg.fields.tensor import TensorField

__all__ = [
    "NOTHING",
    "Best",
    "Field",
    "LabelRule",
    "Selection",
    "TensorField",
    "Totals",
    "field_for",
]
