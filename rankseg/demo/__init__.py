"""What RankSEG changes on one photograph: a real network, real labels, a table and a figure.

One image shows how it works and proves nothing: the numbers of a single photograph move by
several points with the way it is scaled. Whether you gain depends on your model's calibration.
"""

from rankseg.demo.compare import Comparison, Outcome, compare
from rankseg.demo.figure import save_figure
from rankseg.demo.network import person_probabilities
from rankseg.demo.photo import Photo, load_photo

__all__ = [
    "Comparison",
    "Outcome",
    "Photo",
    "compare",
    "load_photo",
    "person_probabilities",
    "save_figure",
]
