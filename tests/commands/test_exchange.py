"""Export to labelling tools, of runs and of audits, and import of judgements: round trips on files."""

import csv
import json

import pyarrow.parquet as pq
import pytest

from faceattr.audit.judgements import read_judgements
from faceattr.cli import main as faceattr
from faceattr.data.sources.options import SourceOptions
from faceattr.data.sources.registry import open_source
from faceattr.data.stores.local import LocalStore
from tests.audit.audits import HAIR, HAT, write_audit
from tests.label_runs import write_label_run


@pytest.fixture
def run(tmp_path):
    """Ten images with scores 0.0, 0.1 ... 0.9; the sixth is missing."""
    rows = {
        f"{number}.jpg": (str(number).encode(), {"hat": int(number >= 5), "hat_score": number / 10, "glasses": 0})
        for number in range(10)
    }
    rows["5.jpg"] = (None, {})
    return write_label_run(tmp_path / "run", ["hat", "glasses"], rows, root=tmp_path)


def test_rows_by_where_and_limit(run, tmp_path):
    path = tmp_path / "x.csv"
    flags = ["--output", str(path), "--where", "0.25 < hat_score < 0.85", "--limit", "4", "--attributes", "hat"]
    assert faceattr(["export", "labels", run, *flags]) == 0
    found = list(csv.DictReader(path.open(newline="")))
    # Row 5 has no score: its image is missing.
    assert [(row["image_path"], row["hat"]) for row in found] == [
        ("3.jpg", "0"), ("4.jpg", "0"), ("6.jpg", "1"), ("7.jpg", "1"),
    ]  # fmt: skip
    assert list(found[0]) == ["image_path", "hat"]


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (["--where", "hat_scor > 0.5"], "--where: there is no column 'hat_scor'; did you mean 'hat_score'"),
        (["--where", "hat_score >"], "it cannot be read"),
        (["--limit", "0"], "--limit 0: expected 1 or more"),
        (["--attributes", "hut"], "--attributes: the run has no 'hut'; it has hat, glasses"),
        (["--format", "cvat", "--scores"], "--class-names and --scores are for csv and json"),
    ],
)
def test_what_cannot_be_exported(run, flags, found, capsys, tmp_path):
    assert faceattr(["export", "labels", run, "--output", str(tmp_path / "x"), *flags]) == 2
    error = capsys.readouterr().err
    assert found in error
    assert len(error.splitlines()) == 1


def test_images_in_parquet_files_are_refused(tmp_path, capsys):
    rows = {"0": (b"0", {"hat": 1, "hat_score": 0.5})}
    packed = {"bytes_column": "image", "file": str(tmp_path / "p.parquet")}
    run = write_label_run(tmp_path / "run", ["hat"], rows, root=tmp_path, **packed)
    assert faceattr(["export", "labels", run, "--format", "cvat", "--output", str(tmp_path / "x.xml")]) == 2
    assert "its images are parts of Parquet or tar files, which labelling tools cannot open" in capsys.readouterr().err


def judge_label_studio(path, answers):
    """What Label Studio would export, had a person judged the tasks: answers by image id."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        said = answers[task["data"]["image_id"]]
        result = {"from_name": "hat", "to_name": "image", "type": "choices", "value": {"choices": [said]}}
        task["annotations"] = [{"result": [result], "completed_by": {"email": "ann@x.example"}, "was_cancelled": False}]
    path.write_text(json.dumps(tasks))


def judge_cvat(path, answers):
    text = path.read_text()
    for image, said in answers.items():
        before, name, after = text.partition(f'name="{image}"')
        end = after.index("</image>")
        text = f'{before}{name}{after[:end]}<tag label="hat={said}" source="manual"></tag>{after[end:]}'
    path.write_text(text)


def judge_fiftyone(path, answers):
    file = path / "hat" / "labels.json"
    content = json.loads(file.read_text())
    content["labels"] = {name: content["classes"].index(answers[name.rpartition("/")[2]]) for name in content["labels"]}
    file.write_text(json.dumps(content))


JUDGES = {"label-studio": judge_label_studio, "cvat": judge_cvat, "fiftyone": judge_fiftyone}
ANSWERS = {"4.jpg": "yes", "6.jpg": "no", "7.jpg": "cannot tell"}


@pytest.mark.parametrize("tool", JUDGES)
def test_a_run_goes_out_and_comes_back_as_labels_that_packing_reads(run, tool, tmp_path, capsys):
    path = tmp_path / "out"
    where = ["--where", "0.35 < hat_score < 0.75", "--attributes", "hat"]
    assert faceattr(["export", "labels", run, "--format", tool, "--output", str(path), *where]) == 0
    assert "wrote 3 images" in capsys.readouterr().out
    JUDGES[tool](path, ANSWERS)
    for name in ("labels.csv", "labels.parquet"):
        table = tmp_path / "tables" / name
        assert faceattr(["import", "judgements", str(path), "--format", tool, "--output", str(table)]) == 0
        assert "wrote 3 images with 3 answers" in capsys.readouterr().out
        source = open_source("table", str(tmp_path), options=SourceOptions(files=(str(table),)))
        labels, rejects = source.read_all()
        assert rejects.total == 0
        assert labels.select(["image_id", "hat"]).to_pydict() == {"image_id": list(ANSWERS), "hat": [1, 0, None]}
    assert pq.read_schema(tmp_path / "tables" / "labels.parquet").names == ["image_path", "hat"]


@pytest.mark.parametrize("tool", JUDGES)
def test_an_audit_goes_out_blind_and_its_judgements_come_back(tool, tmp_path, capsys):
    audit, path = tmp_path / "audit", tmp_path / "out"
    items = [{"image_id": name, "score": 0.625} for name in ANSWERS]
    items.append({"image_id": "4.jpg", "attribute": "hair"})
    write_audit(audit, items, root=tmp_path, attributes=(HAT, HAIR))
    assert faceattr(["audit", "export", str(audit), "--format", tool, "--output", str(path)]) == 2
    assert "--attribute None: expected one of hat, hair" in capsys.readouterr().err
    command = ["audit", "export", str(audit), "--format", tool, "--output", str(path), "--attribute", "hat"]
    assert faceattr(command) == 0
    assert "wrote 3 images to judge for hat" in capsys.readouterr().out
    written = path if path.is_file() else path / "hat" / "labels.json"
    assert "0.625" not in written.read_text()
    JUDGES[tool](path, ANSWERS)
    read = ["import", "judgements", str(path), "--format", tool, "--output", str(audit), "--reviewer", "bob"]
    assert faceattr(read) == 0
    who = "ann@x.example" if tool == "label-studio" else "bob"
    assert f"added 3 judgements of {who} to {audit}; 0 were there already" in capsys.readouterr().out
    assert [(each.item, each.answer, each.reviewer) for each in read_judgements(LocalStore(audit))] == [
        (0, 1, who), (1, 0, who), (2, None, who),
    ]  # fmt: skip
    assert faceattr(read) == 0
    assert "added 0 judgements" in capsys.readouterr().out


def test_answers_that_are_not_about_the_sample(tmp_path, capsys):
    audit, file = tmp_path / "audit", tmp_path / "hat" / "labels.json"
    write_audit(audit, [{"image_id": "a.jpg"}, {"image_id": "b.jpg"}, {"image_id": "b.png"}], root=tmp_path)
    file.parent.mkdir()
    # `b` is two images; `other` is none of them; `a` is a.jpg by its name without extension.
    file.write_text(json.dumps({"labels": {"a": "yes", "b": "no", "other": "yes"}}))
    command = ["import", "judgements", str(file), "--format", "fiftyone", "--output", str(audit)]
    assert faceattr(command) == 0
    assert "added 1 judgements of fiftyone" in (out := capsys.readouterr().out)
    assert "2 are not about items of its sample" in out
    file.write_text(json.dumps({"labels": {"a": "perhaps"}}))
    assert faceattr(command) == 2
    assert "a: hat: expected no, yes or cannot tell, found 'perhaps'" in capsys.readouterr().err


def test_outputs_and_files_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("")
    (tmp_path / "export.json").write_text("[]")
    command = ["import", "judgements", str(tmp_path / "export.json"), "--format", "label-studio", "--output"]
    for output in (tmp_path, tmp_path / "labels.csv", tmp_path / "labels.txt"):
        assert faceattr([*command, str(output)]) == 2
        assert "expected an audit folder, or a new file that ends in .csv or .parquet" in capsys.readouterr().err
    command[2] = str(tmp_path / "gone")
    assert faceattr([*command, str(tmp_path / "new.csv")]) == 2
    assert "gone does not exist" in capsys.readouterr().err
