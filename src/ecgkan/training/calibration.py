"""Calibration: what makes a model's probabilities mean what they say, fitted on records held out of its training."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgkan.aami import CLASSES


@dataclass(frozen=True, slots=True)
class Calibration:
    """A temperature and a shift for each class.

    Calibrated probabilities are `softmax((logits + class_shift) / temperature)`.

    Attributes
    ----------
    temperature : float
        Divides the logits.
    class_shift : tuple of float
        Added to the logits, class order N S V F Q; 0 for N. It takes back that training draws rare classes more often.
    """

    temperature: float
    class_shift: tuple[float, ...]


def fit_calibration(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Calibration:
    """Fit temperature and class shifts by maximum likelihood, on beats of records that did not train the model.

    Parameters
    ----------
    logits : ndarray
        `[n, 5]`, without shift.
    labels : ndarray
        `[n]`, class indices.

    References
    ----------
    Alexandari A, Kundaje A, Shrikumar A. Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label
    Shift Adaptation. ICML 2020 (bias-corrected temperature scaling).
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    wide, rows = np.asarray(logits, dtype=np.float64), np.arange(len(labels))

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = wide * np.exp(-parameters[0])
        scores = scaled + np.concatenate([[0.0], parameters[1:]])
        total = logsumexp(scores, axis=1)
        surplus = np.exp(scores - total[:, None])
        surplus[rows, labels] -= 1
        slope = np.concatenate([[-(surplus * scaled).sum()], surplus[:, 1:].sum(axis=0)])
        return float((total - scores[rows, labels]).mean()), slope / len(labels)

    # Bounds keep a class without a held-out beat, such as Q in some folds, from running away.
    bounds = [(-2.0, 2.0)] + [(-6.0, 6.0)] * (len(CLASSES) - 1)
    found = minimize(loss, np.zeros(len(CLASSES)), jac=True, method="L-BFGS-B", bounds=bounds).x
    temperature = float(np.exp(found[0]))
    return Calibration(temperature, (0.0, *(float(shift) * temperature for shift in found[1:])))
