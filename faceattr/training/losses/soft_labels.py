"""Which scores of a labelling model (teacher) are learnt from, and how much each counts.

A score's weight is the product of two doubts about it:

    mass                            how much probability the teacher gave to the offered answers at all; of a run with
                                    --agreement also how far the paraphrases of its question agreed
    |2p - 1| ** confidence_gamma    how far the score is from undecided; binary attributes alone
"""

import torch
from torch import Tensor

from faceattr.config.fit import LossConfig
from faceattr.training.targets import Targets


def learnt_scores(targets: Targets, config: LossConfig) -> Tensor | None:
    """Returns the scores that are learnt from, float32 as `Targets.score`; NaN where the label counts, or nothing.

    Where the teacher abstained there is a score without a label: `--loss.abstained unlabelled` leaves it out.
    """
    if targets.score is None or not config.soft_labels:
        return None
    if config.abstained == "score":
        return targets.score
    labelled = targets.known if targets.coarse is None else targets.known | targets.coarse.any(1)
    missing = ~labelled if targets.score.ndim == 1 else ~labelled[:, None]
    return targets.score.masked_fill(missing, torch.nan)


def weigh_scores(targets: Targets, score: Tensor, config: LossConfig) -> Tensor:
    """Returns the weight of each row's score: float32 [n], NaN for a binary attribute's rows without one."""
    if score.ndim > 1:
        return targets.weight
    return targets.weight * (2 * score - 1).abs() ** config.confidence_gamma
