"""Turns a face upright: a similarity transform takes its five points to the places that they have in a frontal face.

The transform (one scale, one rotation, one shift) is the least-squares solution of S. Umeyama, "Least-squares
estimation of transformation parameters between two point patterns", IEEE TPAMI 13(4), 1991, equations 40 to 42:

    target = scale * rotation @ source + shift,    covariance of the points = U D V^T,
    rotation = U S V^T,    scale = trace(D S) / variance of the source,    S = diag(1, det(U) det(V))
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from faceattr.errors import ConfigError
from faceattr.inference.detect import Face

FRONTAL_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Left and right eye, tip of the nose, left and right corner of the mouth as seen in the picture, in a square of 112;
the template of ArcFace (InsightFace, `arcface_dst`), where the square is about the box of a face."""
FRONTAL_SIDE = 112.0

Matrix = npt.NDArray[np.float64]


def estimate_similarity(source: Matrix, target: Matrix) -> Matrix:
    """Estimates the similarity transform with the least squared distance between points.

    Args:
        source: float64 [n, 2], not all the same point.
        target: float64 [n, 2].

    Returns:
        float64 [2, 3]: target = matrix[:, :2] @ source + matrix[:, 2]. It never mirrors.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    centred, wanted = source - source_mean, target - target_mean
    left, spread, right = np.linalg.svd(wanted.T @ centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = (spread * signs).sum() / centred.var(0).sum()
    linear = scale * rotation
    return np.column_stack([linear, target_mean - linear @ source_mean])


def align_face(image: np.ndarray, face: Face, margin: float) -> np.ndarray:
    """Cuts out the upright square around a face, with a margin; what is outside the picture is black.

    The square has about as many pixels as the face has in the picture, and no more than the picture's longer side.

    Args:
        image: uint8 [H, W, 3].
        face: a face with its five points.
        margin: margin on every side, as a share of the face's size.

    Returns:
        uint8 [S, S, 3].

    Raises:
        ConfigError: the detector gave no points.
    """
    if face.points is None:
        raise ConfigError("--faces align: this face detector finds no eyes, nose and mouth; use --faces crop")
    # From the frontal face to the picture: the least-squares fit is in px of the picture.
    found = estimate_similarity(np.array(FRONTAL_POINTS), np.array(face.points, np.float64))
    window = FRONTAL_SIDE * (1 + 2 * margin)
    px_per_unit = float(np.hypot(*found[:, 0]))
    side = int(np.clip(round(px_per_unit * window), 1, max(image.shape[:2])))
    # Pillow asks for the place in the picture of each place in the result.
    step = window / side
    linear = found[:, :2] * step
    corner = found[:, :2] @ np.full(2, -margin * FRONTAL_SIDE) + found[:, 2]
    affine = np.column_stack([linear, corner])
    turned = Image.fromarray(image).transform(
        (side, side), Image.Transform.AFFINE, tuple(affine.ravel()), Image.Resampling.BICUBIC
    )
    return np.asarray(turned)
