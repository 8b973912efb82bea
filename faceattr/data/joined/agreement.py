"""How far several opinions about one image agree: of a model's answers to paraphrases, or of several runs.

    agreement = max(0, 1 - 2 s)
    s ** 2    = mean_k 1/2 sum_c (p_kc - mean_k p_kc) ** 2

where p_kc is the probability that opinion k gives to class c. For a binary attribute s is the standard deviation of
P(yes) over the opinions, so that the agreement is 1 if all are equal, and 0 if half of them are certain of yes and half
of no.
"""

import numpy as np


def compute_agreement(probabilities: np.ndarray) -> np.ndarray:
    """Returns the agreement from 0 to 1, [n], of probabilities [n, opinions, classes]."""
    variance = probabilities.var(axis=1).sum(axis=1) / 2
    return np.maximum(0.0, 1 - 2 * np.sqrt(variance))
