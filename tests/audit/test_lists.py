"""Lists beside the random sample: which rows they have, that nothing else changes, how they are judged and counted."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.attributes import Attribute
from faceattr.audit.folder import AUDIT_KEY, SAMPLE_KEY, read_sample
from faceattr.audit.judgements import ANSWERS_KEY, ReviewerAnswer, append_judgements
from faceattr.audit.lists.labels import NO_CLASS, read_given_labels
from faceattr.audit.review.session import ReviewSession
from faceattr.audit.scored_table import ScoredTable
from faceattr.audit.verdicts import compare_reviewers
from faceattr.cli import main
from faceattr.config import StorageConfig
from faceattr.data.stores.local import LocalStore
from faceattr.errors import ConfigError
from tests.label_runs import write_label_run

NUM = 120
MISSING = (3, 50, 51, 99)
FLIPPED = tuple(range(0, 100, 5))  # rows whose given hat is not that of the run; 50 has no label in the run
DISPUTED = tuple(range(2, 120, 4))  # rows whose glasses are not those of the other run; 50 and 98 among them


def write_run(folder, *, disputed=()):
    """Hats from row 60 on, glasses at odd rows, but for the disputed ones; some rows are rejected."""
    rows = {}
    for row in range(NUM):
        hat, glasses = (row + 0.5) / NUM, 0.75 if (row % 2 == 1) != (row in disputed) else 0.25
        labels = {"hat": int(hat >= 0.5), "hat_score": hat, "hat_mass": 1.0}
        labels |= {"glasses": int(glasses >= 0.5), "glasses_score": glasses, "glasses_mass": 1.0}
        rows[f"a/{row:03}.jpg"] = (None, {}) if row in MISSING else (b"%d" % row, labels)
    return write_label_run(folder, ["hat", "glasses"], rows, root=folder.parent / "images")


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


@pytest.fixture
def given(tmp_path):
    """Hats that somebody gave: flipped ones, unknown ones from row 100 on, an image of another table, a bad row."""
    with (tmp_path / "given.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_path", "Hat", "age"])
        for row in range(NUM):
            hat = int(row >= 60) ^ int(row in FLIPPED)
            writer.writerow([f"a/{row:03}.jpg", hat if row < 100 else "", "?"])
        writer.writerow(["a/other.jpg", "1", "30"])
        writer.writerow(["a/110.jpg", "perhaps", "30"])
    return str(tmp_path / "given.csv")


def draw(run, folder, *flags):
    assert main(["audit", "sample", run, "--output", str(folder), "--per-attribute", "10", *flags]) == 0
    return pq.read_table(folder / SAMPLE_KEY).to_pylist()


def test_lists_are_the_rows_of_their_kind_and_the_random_sample_stays(run, given, tmp_path, capsys):
    plain = draw(run, tmp_path / "plain")
    assert "lists" not in json.loads((tmp_path / "plain" / AUDIT_KEY).read_text())
    capsys.readouterr()
    other = write_run(tmp_path / "other", disputed=DISPUTED)
    items = draw(run, tmp_path / "audit", "--given", given, "--other", other, "--rejects", "--per-list", "20")
    shown = capsys.readouterr().out
    assert items[: len(plain)] == plain
    assert [each["item"] for each in items] == list(range(len(items)))
    listed = items[len(plain) :]
    assert all(each["stratum"] is None and each["probability"] is None for each in listed)
    rows = {}
    for each in listed:
        rows.setdefault((each["attribute"], each["reason"]), []).append(each["row"])
    sampled = {name: {each["row"] for each in plain if each["attribute"] == name} for name in ("hat", "glasses")}
    # Less than 20 flipped rows are left over by the random sample, so all of them are listed.
    flipped, disputed = set(FLIPPED) - set(MISSING), set(DISPUTED) - set(MISSING)
    assert set(rows["hat", "given"]) == flipped - sampled["hat"]
    assert set(rows["glasses", "other"]) < disputed - sampled["glasses"]
    assert len(rows["glasses", "other"]) == len(set(rows["glasses", "other"])) == 20
    assert sorted(rows["rightly_rejected", "missing"]) == list(MISSING)
    assert set(rows) == {("hat", "given"), ("glasses", "other"), ("rightly_rejected", "missing")}
    for each in listed:
        if each["attribute"] == "rightly_rejected":
            assert (each["label"], each["score"]) == (None, None)
        else:
            expected = each["row"] >= 60 if each["attribute"] == "hat" else each["row"] % 2
            assert each["label"] == int(expected)
            assert each["score"] is not None
    lists = json.loads((tmp_path / "audit" / AUDIT_KEY).read_text())["lists"]
    assert [(each["attribute"], each["reason"], each["num_rows"], each["other"]) for each in lists] == [
        ("hat", "given", 19, given),
        ("hat", "other", 0, other),
        ("glasses", "other", 29, other),
        ("rightly_rejected", "missing", 4, None),
    ]
    assert "glasses: another run differs: 20 of 29 rows listed" in shown
    assert "rightly_rejected: missing: 4 of 4 rows listed" in shown
    assert "rejected 1 rows: value" in shown
    assert draw(run, tmp_path / "again", "--given", given, "--other", other, "--rejects", "--per-list", "20") == items


def answers(folder, of):
    """Judges every item by `of(row) -> answer`, or None for an item that is left."""
    items = pq.read_table(folder / SAMPLE_KEY).to_pylist()
    said = [(each["item"], of(each)) for each in items]
    append_judgements(
        folder / ANSWERS_KEY,
        [
            ReviewerAnswer(item=item, answer=None if answer == "?" else answer, reviewer="ann", time_s=0.0)
            for item, answer in said
            if answer is not None
        ],
    )
    return items


def test_listed_rows_are_counted_on_their_own(run, given, tmp_path, capsys):
    folders = {name: tmp_path / name for name in ("plain", "listed")}
    flags = ["--given", given, "--rejects", "--per-list", "6"]
    draw(run, folders["plain"], "--attributes", "hat")
    draw(run, folders["listed"], "--attributes", "hat", *flags)
    kinds = {"given": [1, 1, 1, 0, 0, "?"], "missing": [1, 0, "?", None]}

    def judge(each):
        if each["reason"] == "score":
            return int(each["row"] % 3 == 0) ^ each["label"]
        right = kinds[each["reason"]].pop()
        if each["reason"] == "given" and isinstance(right, int):
            return right if each["label"] else 1 - right
        return right

    for folder in folders.values():
        answers(folder, judge)
        assert main(["audit", "apply", str(folder)]) == 0
    shown = capsys.readouterr().out
    plain, listed = (json.loads((folder / "result.json").read_text()) for folder in folders.values())
    # Whatever people say of listed rows, no estimate moves.
    assert listed.pop("lists") == [
        {
            "rows": {"attribute": "hat", "reason": "given", "other": given, "num_rows": 19, "num_listed": 6},
            "num_right": 3, "num_wrong": 2, "num_unsure": 1, "num_left": 0,
        },
        {
            "rows": {
                "attribute": "rightly_rejected", "reason": "missing", "other": None, "num_rows": 4, "num_listed": 4,
            },
            "num_right": 1, "num_wrong": 1, "num_unsure": 1, "num_left": 1,
        },
    ]  # fmt: skip
    assert "lists" not in plain
    assert plain.pop("reviewers") == {"ann": 10}
    assert listed.pop("reviewers") == {"ann": 19}
    assert listed == plain
    assert (
        "hat: given labels differ  (6 of 19 rows listed): the table is right in 3, wrong in 2, 1 cannot tell, 0 left"
    ) in shown
    assert (
        "rightly_rejected: missing  (4 of 4 rows listed): rejected rightly in 1, wrongly in 1, 1 cannot tell, 1 left"
    ) in shown
    page = (folders["listed"] / "report.html").read_text()
    assert "<td>hat: given labels differ</td>" in page
    plain_page = (folders["plain"] / "report.html").read_text()
    assert "Lists</h2>" not in plain_page
    assert "<h4>" not in plain_page  # no image without --thumbnails
    assert "data:image/jpeg" not in plain_page


def test_two_reviewers_agreement_is_of_random_draws(run, given, tmp_path):
    folder = tmp_path / "audit"
    items = draw(run, folder, "--attributes", "hat", "--given", given)
    said = [
        ReviewerAnswer(
            item=each["item"], answer=int(who == "ann" or each["reason"] == "score"), reviewer=who, time_s=0.0
        )
        for who in ("ann", "bob")
        for each in items
    ]
    (found,) = compare_reviewers(read_sample(LocalStore(folder)), said)
    assert (found.attribute, found.num_items, found.agreement) == ("hat", 10, 1.0)


def test_the_review_shows_lists_after_the_random_draws(run, given, tmp_path):
    items = draw(run, tmp_path / "audit", "--given", given, "--rejects", "--per-list", "3")
    session = ReviewSession(tmp_path / "audit")
    shown = session.describe("ann")
    assert [(each["name"], each["is_yes_no"], each["items"]) for each in shown["attributes"]] == [
        ("hat", True, list(range(10))),
        ("glasses", True, list(range(10, 20))),
        ("hat: given labels differ", True, [20, 21, 22]),
        ("rightly_rejected: missing", True, [23, 24, 25]),
    ]
    hidden = json.dumps(shown)
    assert all(each["image_id"] not in hidden for each in items)
    told = session.judge(session.audit_id, 24, 1, "ann")
    assert told == {
        "label": None, "score": None, "threshold": 0.5, "image_id": items[24]["image_id"], "reason": "missing",
    }  # fmt: skip
    assert read_sample(LocalStore(tmp_path / "audit")).audit.lists[0].num_listed == 3


def test_given_classes_and_the_first_of_several_rows(tmp_path):
    hair = Attribute(name="hair", kind="multiclass", classes=("black", "brown", "blond"))
    table = ScoredTable(
        address="t", run_id=None, version=0, root=str(tmp_path), bytes_column=None, decisions={},
        attributes={"hair": hair, "hat": Attribute(name="hat")}, read=lambda: iter(()),
    )  # fmt: skip
    columns = {"image_path": ["b", f"{tmp_path}/a", "a", "c"], "hair": ["blond", "brown", "black", None]}
    pq.write_table(pa.table(columns), tmp_path / "given.parquet")
    found = read_given_labels(str(tmp_path / "given.parquet"), StorageConfig(), table)
    places = found.find(pa.chunked_array([["a", "b", "c", "d"]]))
    assert list(found.labels) == ["hair"]
    assert found.labels["hair"][places[:3]].tolist() == [1, 2, NO_CLASS]
    assert places[3] == -1
    assert np.all(np.diff(found.hashes.astype(object)) > 0)
    pq.write_table(pa.table({"image_path": ["a"], "beard": [1]}), tmp_path / "beard.parquet")
    with pytest.raises(ConfigError, match=r"has no column of an audited attribute \(hair, hat\); it has .*beard"):
        read_given_labels(str(tmp_path / "beard.parquet"), StorageConfig(), table)


def test_what_cannot_be_compared_is_one_sentence(run, tmp_path, capsys):
    command = ["audit", "sample", run, "--output", str(tmp_path / "audit")]
    (tmp_path / "named.csv").write_text("image_path,hat\n000.jpg,1\n")
    assert main([*command, "--given", str(tmp_path / "named.csv")]) == 2
    error = capsys.readouterr().err
    assert f"names none of the images of {run}, such as 'a/000.jpg'; expected names below {tmp_path}/images" in error
    beards = write_label_run(tmp_path / "b", ["beard"], {"x": (b"", {"beard": 1, "beard_score": 1.0})}, root=tmp_path)
    assert main([*command, "--other", beards]) == 2
    assert "has none of the audited attributes hat, glasses; it has beard" in capsys.readouterr().err
    assert main([*command, "--other", str(tmp_path / "gone")]) == 2
    assert "gone holds no label or prediction run" in capsys.readouterr().err
    assert main([*command, "--per-list", "0"]) == 2
    assert "per-list" in capsys.readouterr().err
    assert not (tmp_path / "audit").exists()


def write_issues(path, rows):
    """(image, attribute, suggested class, whether it is an issue) of each row."""
    names = ("image_id", "attribute", "suggested", "is_issue")
    pq.write_table(pa.table(dict(zip(names, zip(*rows, strict=True), strict=True))), path)
    return str(path)


def test_labels_that_are_probably_wrong_are_listed(run, tmp_path):
    rows = [(f"a/{row:03}.jpg", "hat", int(row < 60), True) for row in (10, 70, 80)]
    rows += [("a/020.jpg", "hat", 1, False), ("a/030.jpg", "glasses", 1, True), ("a/031.jpg", "glasses", 1, True)]
    issues = write_issues(tmp_path / "issues.parquet", rows)
    items = draw(run, tmp_path / "audit", "--issues", issues)
    sampled = {(each["attribute"], each["image_id"]) for each in items if each["reason"] == "score"}
    listed = {(each["attribute"], each["image_id"]) for each in items if each["reason"] == "issue"}
    # 20 is merely doubtful; 31 has glasses already.
    wanted = {("hat", "a/010.jpg"), ("hat", "a/070.jpg"), ("hat", "a/080.jpg"), ("glasses", "a/030.jpg")}
    assert listed == wanted - sampled


def test_issues_of_other_tables_are_refused(run, tmp_path, capsys):
    begin = ["audit", "sample", run, "--output", str(tmp_path / "audit"), "--per-attribute", "10", "--issues"]
    assert main([*begin, str(tmp_path / "none.parquet")]) == 2
    assert "there is no such file; expected a label_issues.parquet" in capsys.readouterr().err
    beard = write_issues(tmp_path / "beard.parquet", [("a/010.jpg", "beard", 1, True)])
    assert main([*begin, beard]) == 2
    assert "has no issue of the audited attributes hat, glasses; it has beard" in capsys.readouterr().err
    third = write_issues(tmp_path / "third.parquet", [("a/010.jpg", "hat", 2, True)])
    assert main([*begin, third]) == 2
    assert "hat has other classes there; the table has 2" in capsys.readouterr().err
