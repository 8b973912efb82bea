"""Drawn faces: deterministic, balanced, independent labels that agree with what is to be seen."""

import csv
import itertools

import numpy as np
import pytest
from PIL import Image

from faceattr.demo.drawing import Part
from faceattr.demo.faces import LABEL_NAMES, DrawnFace, build_face_rng, draw_face, write_faces

MAIN_LABELS = ("hat", "glasses", "facial_hair")
PARTS = {"hat": Part.HAT, "glasses": Part.GLASSES, "facial_hair": Part.FACIAL_HAIR}


@pytest.fixture(scope="module")
def faces() -> list[DrawnFace]:
    return [draw_face(build_face_rng(20, index), size_px=96) for index in range(800)]


def test_the_same_seed_gives_the_same_face_and_another_does_not():
    first, again, other = (draw_face(build_face_rng(seed, 3)) for seed in (1, 1, 2))
    assert first.labels == again.labels
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.parts, again.parts)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size_px", [96, 160, 251])
def test_shapes_and_dtypes(size_px):
    face = draw_face(build_face_rng(0, 0), size_px)
    assert (face.image.shape, face.image.dtype) == ((size_px, size_px, 3), np.uint8)
    assert (face.parts.shape, face.parts.dtype) == ((size_px, size_px), np.uint8)
    assert tuple(face.labels) == LABEL_NAMES


@pytest.mark.parametrize("name", LABEL_NAMES)
def test_about_half_are_positive(faces, name):
    values = [face.labels[name] for face in faces]
    assert set(values) == {0, 1}
    # Four standard deviations of a fair coin's mean over 800 throws are 0.07.
    assert np.mean(values) == pytest.approx(0.5, abs=0.07)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(LABEL_NAMES, 2)))
def test_attributes_are_independent(faces, first, second):
    values = np.array([[face.labels[first], face.labels[second]] for face in faces])
    assert abs(np.corrcoef(values.T)[0, 1]) < 4 / np.sqrt(len(faces))


@pytest.mark.parametrize("name", MAIN_LABELS)
def test_the_part_map_agrees_with_the_label(faces, name):
    areas = np.array([(face.parts == PARTS[name]).mean() for face in faces])
    labels = np.array([face.labels[name] for face in faces], dtype=bool)
    assert areas[~labels].max() == 0.0
    # Half a percent of 96 x 96 pixels are 46: enough to be seen by a person too.
    assert areas[labels].min() > 0.005


@pytest.mark.parametrize("name", MAIN_LABELS)
def test_what_is_labelled_stands_out_from_bare_skin(name):
    distances = []
    for index in range(200):
        face = draw_face(build_face_rng(21, index))
        part, skin = face.image[face.parts == PARTS[name]], face.image[face.parts == Part.SKIN]
        if len(part):
            distances.append(np.linalg.norm(np.median(part, axis=0) - np.median(skin, axis=0)))
    assert np.median(distances) > 60


def test_faces_differ_from_each_other(faces):
    means = np.array([face.image.mean(axis=(0, 1)) for face in faces])
    assert means.std(axis=0).min() > 20
    assert len({face.image.tobytes() for face in faces}) == len(faces)


def test_write_faces_writes_images_and_their_truth(tmp_path):
    truth_path = write_faces(tmp_path / "faces", count=6, seed=9)
    assert truth_path == tmp_path / "faces" / "truth.csv"
    with truth_path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_path", *LABEL_NAMES]
    assert [row["image_path"] for row in rows] == [f"face-{index:05d}.jpg" for index in range(6)]
    for index, row in enumerate(rows):
        face = draw_face(build_face_rng(9, index))
        assert {name: int(row[name]) for name in LABEL_NAMES} == face.labels
        with Image.open(tmp_path / "faces" / row["image_path"]) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (160, 160))
            # JPEG keeps the drawing, but not its noise.
            assert np.abs(np.asarray(image, dtype=int) - face.image.astype(int)).mean() < 12


def test_a_second_write_gives_the_same_bytes(tmp_path):
    for folder in ("one", "two"):
        write_faces(tmp_path / folder, count=2, seed=4)
    for name in ("face-00000.jpg", "face-00001.jpg", "truth.csv"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
