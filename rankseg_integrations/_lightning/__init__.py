"""What the callbacks for Lightning do, apart from the class tree they belong to.

``lightning`` and ``pytorch_lightning`` are two packages with the same classes, and each ignores the
other's. `rankseg_integrations.lightning` and `rankseg_integrations.pytorch_lightning` bind these
mixins to one of them; nothing here imports either.
"""

from rankseg_integrations._lightning.deciding import Decides
from rankseg_integrations._lightning.evaluation import Evaluates
from rankseg_integrations._lightning.writing import Writes

__all__ = ["Decides", "Evaluates", "Writes"]
