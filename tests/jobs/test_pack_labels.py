"""Packing label runs, on real Ray: several over the same images, packed ones, and labels of people beside them."""

import json
import runpy
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.pack_images import picture, rows_of, write_images
from tests.label_runs import write_label_run

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pack = runpy.run_path(str(Path(__file__).parents[2] / "pipelines" / "pack.py"))["main"]


def labels_of(numbers, name):
    """Rows of a label run: image number n has the label n modulo 2."""
    labels = {number: {name: number % 2, f"{name}_score": number % 2 * 0.5 + 0.25} for number in numbers}
    return {f"{number:02d}.png": (picture(number), labels[number]) for number in numbers}


def test_label_runs_over_the_same_images_become_one_table(tmp_path, ray_local, capsys):
    write_images(tmp_path / "in", {f"{number:02d}.png": number for number in range(30)})
    hats = write_label_run(tmp_path / "hats", ["hat"], labels_of(range(30), "hat"), root=tmp_path / "in")
    glasses = labels_of(range(10, 30), "glasses") | {"gone.png": (None, {})}
    other = write_label_run(tmp_path / "glasses", ["glasses"], glasses, root=tmp_path / "in")
    assert pack(["--labels", hats, "--output", str(tmp_path / "one")]) == 0
    assert not (tmp_path / "one" / "scan").exists()  # a label run has hashed its images
    rows = rows_of(tmp_path / "one")
    assert sorted(rows) == [f"{number:02d}.png" for number in range(30)]
    assert (rows["07.png"]["hat"], rows["07.png"]["hat_score"], rows["07.png"]["image"]) == (1, 0.75, picture(7))
    capsys.readouterr()

    assert pack(["--labels", hats, other, "--output", str(tmp_path / "both")]) == 0
    shown = capsys.readouterr().out
    assert "20 rows were in several label tables and were merged" in shown
    assert "rejected 1 rows: missing" in shown
    rows = rows_of(tmp_path / "both")
    assert sorted(rows) == [f"hats/{number:02d}.png" for number in range(30)]
    for number in range(30):
        row = rows[f"hats/{number:02d}.png"]
        assert (row["hat"], row["glasses"]) == (number % 2, number % 2 if number >= 10 else None)
        assert row["image"] == picture(number)

    write_images(tmp_path / "in", {"07.png": 700})  # labelled, and then another picture was put in its place
    assert pack(["--labels", hats, "--output", str(tmp_path / "changed")]) == 0
    assert rows_of(tmp_path / "changed")["07.png"]["status"] == "changed"


def test_a_label_run_over_packed_parquet(tmp_path, ray_local):
    (tmp_path / "in").mkdir()
    file = str(tmp_path / "in" / "images.parquet")
    pq.write_table(pa.table({"png": [picture(number) for number in range(20)]}), file, row_group_size=7)
    labels = labels_of(range(20), "hat")
    run = write_label_run(tmp_path / "run", ["hat"], labels, root=tmp_path / "in", bytes_column="png", file=file)
    assert pack(["--labels", run, "--output", str(tmp_path / "out")]) == 0
    rows = rows_of(tmp_path / "out")
    assert {name: (row["image"], row["hat"]) for name, row in rows.items()} == {
        f"{number:02d}.png": (picture(number), number % 2) for number in range(20)
    }


def test_labels_of_a_run_and_of_people_over_the_same_images(tmp_path, ray_local):
    root = tmp_path / "in"
    write_images(root, {f"{number:02d}.png": number for number in range(10)})
    (root / "labeled_data.csv").write_text("image_path,hat,beard\n00.png,0,1\n01.png,0,0\n02.png,,1\n")
    run = write_label_run(tmp_path / "run", ["hat"], labels_of(range(10), "hat"), root=root)
    command = ["--labels", run, "--source", "label_list", "--root", str(root), "--output", str(tmp_path / "out")]
    assert pack(command) == 0
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 10
    found = {name: (row["hat"], row["hat_score"], row["beard"]) for name, row in rows.items()}
    assert found["run/00.png"] == (0, 0.25, 1)
    assert found["run/01.png"] == (None, None, 0)  # the run says yes, the list no: nobody knows
    assert found["run/02.png"] == (0, 0.25, 1)
    assert found["run/03.png"] == (1, 0.75, None)


def forget_note(run, name):
    record = json.loads((run / "run.json").read_text())
    del record["notes"][name]
    (run / "run.json").write_text(json.dumps(record))


def test_teachers_with_different_thresholds_and_a_person_over_the_same_images(tmp_path, ray_local, capsys):
    """Each one's own cut is 0.5; where the first abstains, label and score are the next one's, who knows."""
    root = tmp_path / "in"
    write_images(root, {f"{number:02d}.png": number for number in range(3)})

    def teacher(name, labels, scores, **decision):
        rows = {
            f"{number:02d}.png": (picture(number), {"hat": label, "hat_score": score})
            for number, (label, score) in enumerate(zip(labels, scores, strict=True))
        }
        return write_label_run(tmp_path / name, ["hat"], rows, root=root, decisions={"hat": decision})

    first = teacher("first", [1, None, None], [0.5, 0.25, 0.25], threshold=0.2, abstain=(0.1, 0.3))
    second = teacher("second", [1, 0, None], [0.9, 0.5, 0.75], threshold=0.75, abstain=(0.7, 0.8))
    (root / "labeled_data.csv").write_text("image_path,hat\n02.png,1\n")
    output = str(tmp_path / "out")
    command = ["--labels", first, second, "--source", "label_list", "--root", str(root), "--output", output]
    assert pack(command) == 0
    assert "scores of second/hat are recentred: threshold 0.75 of the label run" in capsys.readouterr().out
    found = {name: (row["hat"], row["hat_score"]) for name, row in rows_of(output).items()}
    assert found == {
        "first/00.png": (1, pytest.approx(4 / 5)),  # even odds over 1 to 4
        "first/01.png": (0, pytest.approx(1 / 4)),  # even odds over 3 to 1
        "first/02.png": (1, None),
    }

    # The same run as earlier versions left it: it stays what it is, and that is said.
    assert pack(command) == 0
    assert "an earlier version" not in capsys.readouterr().out
    forget_note(tmp_path / "out", "equally_sure")
    assert pack(command) == 0
    assert "nothing to do" in (shown := capsys.readouterr().out)
    for name in ("first/hat", "second/hat"):
        assert f"note: an earlier version packed the scores of {name}; its yes may be less sure" in shown
    forget_note(tmp_path / "out", "teachers")
    assert pack(command) == 0
    assert "nothing to do" in (shown := capsys.readouterr().out)
    for run, threshold in ((first, 0.2), (second, 0.75)):
        assert f"note: {run}: an earlier version packed its scores of hat, of which {threshold} is a yes" in shown
