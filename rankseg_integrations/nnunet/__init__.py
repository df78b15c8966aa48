"""nnU-Net: RankSEG's masks from its predictor, and from folders of its probabilities.

``use_rankseg(predictor, metric="dice")`` changes what an ``nnUNetPredictor`` decides;
``segment_folders("predictions", "masks")`` reads what ``--save_probabilities`` has written, as
``rankseg predict --nnunet`` does on the command line.
"""

from rankseg_integrations.nnunet.folders import segment_folders
from rankseg_integrations.nnunet.managers import RankSEGLabelManager, RankSEGPlansManager
from rankseg_integrations.nnunet.predictor import use_rankseg

__all__ = ["RankSEGLabelManager", "RankSEGPlansManager", "segment_folders", "use_rankseg"]
