"""faceattr diff: counts by hand of two small runs."""

import csv

import pytest

from faceattr.cli import main
from tests.label_runs import write_label_run

NAMES = ["hat", "glasses"]


def labels(hat, hat_score, glasses=0, glasses_score=0.25):
    return {"hat": hat, "hat_score": hat_score, "glasses": glasses, "glasses_score": glasses_score}


FIRST = {
    "a.jpg": (b"a", labels(1, 0.75)),
    "b.jpg": (b"b", labels(0, 0.25)),
    "c.jpg": (b"c", labels(1, 0.875)),
    "d.jpg": (b"d", labels(None, 0.5)),
    "e.jpg": (b"e", labels(0, 0.125)),
    "f.jpg": (None, {}),
    "only-1.jpg": (b"g", labels(1, 1.0)),
}
SECOND = {
    "only-2.jpg": (b"h", labels(0, 0.0)),
    "=2.jpg": (b"h", labels(0, 0.0)),
    "f.jpg": (b"f", labels(1, 1.0)),
    "e.jpg": (b"another", labels(0, 0.125)),  # the image was replaced
    "d.jpg": (b"d", labels(1, 0.75)),
    "c.jpg": (b"c", labels(0, 0.375)),  # flips
    "b.jpg": (b"b", labels(0, 0.0)),
    "a.jpg": (b"a", labels(None, 0.5)),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    rows = (("first", FIRST), ("second", SECOND), ("again", FIRST))
    return [write_label_run(folder / name, NAMES, each, root=folder) for name, each in rows]


def test_the_differences_by_hand(runs, tmp_path, capsys):
    first, second, _ = runs
    target = tmp_path / "new" / "differences.csv"
    assert main(["diff", first, second, "--output", str(target)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        f"first      {first}: 7 rows",
        f"second     {second}: 8 rows",
        "images     6 in both, 1 ('only-1.jpg') only in the first, 2 ('only-2.jpg', '=2.jpg') only in the second",
        "sha256     1 ('e.jpg') changed",
        "status     missing -> ok 1; 5 images accepted by both",
        # Both labelled b (0, 0), c (1, 0), e (0, 0): chance agrees as often as the labels do, 2 of 3, so kappa is 0.
        # Shifts .25 .25 .5 .25 0, of which the mean is .25; P(yes) moves by (-.25 -.25 -.5 +.25 +0) / 5.
        "hat        1 of 3 labels flip (yes -> no 1); 1 labelled only in the first, 1 only in the second; kappa 0.000; "
        "scores move by 0.2500 on average, 0.5000 at most, P(yes) by -0.1500",
        "glasses    0 of 5 labels flip; kappa undefined; "
        "scores move by 0.0000 on average, 0.0000 at most, P(yes) by +0.0000",
        f"the differences are listed in {target}",
    ]
    with target.open(newline="") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        ("only-1.jpg", "image", "present", "", "", ""),
        ("e.jpg", "sha256", *rows[1][2:4], "", ""),
        ("f.jpg", "status", "missing", "ok", "", ""),
        ("a.jpg", "hat", "yes", "", "0.75", "0.5"),
        ("c.jpg", "hat", "yes", "no", "0.875", "0.375"),
        ("d.jpg", "hat", "", "yes", "0.5", "0.75"),
        ("only-2.jpg", "image", "", "present", "", ""),
        ("'=2.jpg", "image", "", "present", "", ""),
    ]
    assert rows[1][2] != rows[1][3]


def test_a_difference_is_a_failure_if_asked(runs, capsys):
    first, second, again = runs
    assert main(["diff", first, second, "--fail-on-difference"]) == 1
    assert main(["diff", first, again, "--fail-on-difference"]) == 0
    assert "images     7 in both, 0 only in the first, 0 only in the second" in capsys.readouterr().out
    # Attributes that are the same do not count, but images do.
    assert main(["diff", first, second, "--attributes", "glasses", "--fail-on-difference"]) == 1
    assert "hat" not in capsys.readouterr().out


def test_an_attribute_of_one_run_is_named(runs, tmp_path, capsys):
    one = write_label_run(tmp_path / "one", ["hat", "scarf"], {"a.jpg": (b"a", labels(1, 0.75))}, root=tmp_path)
    two = write_label_run(tmp_path / "two", ["hat"], {"a.jpg": (b"a", labels(1, 0.75))}, root=tmp_path)
    assert main(["diff", one, two, "--fail-on-difference"]) == 1
    assert f"scarf      not compared: only in {one}" in capsys.readouterr().out
    assert main(["diff", one, two, "--attributes", "hat", "--fail-on-difference"]) == 0
    assert main(["diff", one, two, "--attributes", "scarf"]) == 2
    assert f"--attributes: {two} has no scored 'scarf'" in capsys.readouterr().err


def test_a_folder_without_a_run_is_one_line(runs, tmp_path, capsys):
    assert main(["diff", runs[0], str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert (
        error == f"error: {tmp_path} holds no label or prediction run (no run.json of one); give the --output of one\n"
    )
