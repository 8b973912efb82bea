"""faceattr combine: several runs become one that is published like any label run."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import cohen_kappa_score

from faceattr.attributes import Attribute, AttributeSet
from faceattr.cli import main
from faceattr.config import LabelConfig, StorageConfig
from faceattr.data.joined.combine import Combination
from faceattr.data.joined.row_order import JoinedRows
from faceattr.data.joined.runs import open_scored_run
from faceattr.data.label_columns import label_schema
from faceattr.data.runs.commit import OK
from faceattr.data.runs.version import read_manifest, read_published, read_record
from faceattr.data.sources.layouts.published import read_label_run
from faceattr.data.sources.recentring import Recentring
from faceattr.data.sources.source import Rejects
from faceattr.data.stores.open import open_store
from faceattr.jobs.images.rethreshold import rethreshold
from tests.label_runs import write_label_run

NAMES = [f"{number:04d}.jpg" for number in range(600)]


def answers(score, label="by the score", mass=0.75):
    return {"hat": int(score >= 0.5) if label == "by the score" else label, "hat_score": score, "hat_mass": mass}


def write_run(folder, scores, names=NAMES, decisions=None, **changed):
    """A run of hat; `changed` are columns of single images by the stem of their name, None for a missing image."""
    cut = (decisions or {}).get("hat", {}).get("threshold", 0.5)
    rows = {}
    for name, score in zip(names, scores, strict=True):
        labels = changed.get(f"n{name[:4]}", answers(float(score), int(score >= cut)))
        rows[name] = (None, {}) if labels is None else (name.encode(), labels)
    return write_label_run(folder, ["hat"], rows, root=folder.parent / "images", decisions=decisions)


def scores_of(seed):
    """Scores that agree with those of another seed as a rule."""
    truth = np.random.default_rng(0).random(len(NAMES)) < 0.3
    noise = np.random.default_rng(seed).normal(0.0, 0.25, len(NAMES))
    return np.clip(truth + noise, 0.0, 1.0).astype(np.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [write_run(folder / name, scores_of(seed)) for name, seed in (("one", 1), ("two", 2))]


def combine(*words):
    return main(["combine", *map(str, words)])


def rows_of(run):
    return pa.concat_tables(read_published(open_store(str(run))))


def text_of(page):
    """A page without its pictures, which contain the time."""
    return re.sub(r"data:image[^\"]*", "", page.read_text())


def three_tables(values, attribute):
    """A table for each run: (label, score, mass) of each image."""
    schema = label_schema(AttributeSet(attributes=(attribute,)))
    name = attribute.name
    return [
        pa.Table.from_pylist(
            [
                {
                    "row": row,
                    "image_id": f"{row}.jpg",
                    "uri": f"/{row}.jpg",
                    "status": OK,
                    **dict(zip((name, f"{name}_score", f"{name}_mass"), each, strict=True)),
                }
                for row, each in enumerate(run)
            ],
            schema=schema,
        )
        for run in values
    ]


def combined(values, attribute, method, recentrings=({}, {}, {}), weighs_agreement=False):
    attributes = AttributeSet(attributes=(attribute,))
    combination = Combination(
        attributes=attributes,
        methods={attribute.name: method},
        recentrings=recentrings[: len(values)],
        weighs_agreement=weighs_agreement,
    )
    schema = label_schema(attributes, has_agreement=True)
    return combination.combine(three_tables(values, attribute), schema, "here").to_pydict()


# P(yes) of three runs about five images: all say yes; two of three; the mean is a yes although most say no; all no; the
# first two gave no label.
BINARY = [
    [(1, 0.9, 0.8), (1, 0.7, 1.0), (1, 0.95, 1.0), (0, 0.1, 1.0), (None, 0.5, 1.0)],
    [(1, 0.6, 0.4), (1, 0.6, 1.0), (0, 0.35, 1.0), (0, 0.3, 1.0), (None, 0.4, 1.0)],
    [(1, 0.9, None), (0, 0.2, 1.0), (0, 0.35, 1.0), (0, 0.2, 1.0), (0, 0.0, 1.0)],
]


@pytest.mark.parametrize(
    ("method", "labels", "scores"),
    [
        ("mean", [1, 1, 1, 0, 0], [0.8, 0.5, 0.55, 0.2, 0.3]),
        ("vote", [1, 1, 0, 0, 0], [1.0, 2 / 3, 1 / 3, 0.0, 0.0]),
        ("agreed", [1, None, None, 0, None], [0.8, 0.5, 0.55, 0.2, 0.3]),
    ],
)
def test_labels_and_scores_by_hand(method, labels, scores):
    found = combined(BINARY, Attribute(name="hat"), method)
    assert found["hat"] == labels
    np.testing.assert_allclose(found["hat_score"], scores, atol=1e-6)
    # sqrt(2)/10, standard deviation of .9 .6 .9 (population): 1 - 2 * .1414 = .7172; mass: only two runs have one.
    assert found["hat_agreement"][0] == pytest.approx(0.7172, abs=1e-4)
    assert found["hat_agreement"][3] == pytest.approx(1 - 2 * np.std([0.1, 0.3, 0.2]))
    assert found["hat_mass"][0] == pytest.approx(0.6)


def test_the_agreement_can_weigh_the_mass():
    found = combined(BINARY, Attribute(name="hat"), "mean", weighs_agreement=True)
    assert found["hat_mass"][0] == pytest.approx(0.6 * 0.7172, abs=1e-4)
    assert found["hat_score"][0] == pytest.approx(0.8)


def test_a_tie_of_votes_is_no_label_and_a_row_without_votes_has_no_score():
    values = [[(1, 0.9, 1.0), (None, 0.5, 1.0)], [(0, 0.2, 1.0), (None, 0.5, 1.0)]]
    found = combined(values, Attribute(name="hat"), "vote")
    assert (found["hat"], found["hat_score"]) == ([None, None], [0.5, None])


def test_a_runs_threshold_counts_as_one_half():
    # At a threshold of .2 a score of .5 has the odds 1 against 1/4: 4 to 1, so .8; of .1 it is 4/9 to 1, so .3077.
    values = [[(1, 0.5, 1.0), (0, 0.1, 1.0)], [(0, 0.4, 1.0), (1, 0.8, 1.0)]]
    found = combined(values, Attribute(name="hat"), "mean", recentrings=({"hat": Recentring(threshold=0.2)}, {}))
    np.testing.assert_allclose(found["hat_score"], [(0.8 + 0.4) / 2, (4 / 13 + 0.8) / 2], atol=1e-6)
    assert found["hat"] == [1, 1]


@pytest.mark.parametrize(
    ("method", "labels", "scores"),
    [
        # Means of the second image: (.2 + .6 + .5, .5 + .3 + .4, .3 + .1 + .1) / 3.
        ("mean", [2, 0, 1], [[0.1, 0.2, 0.7], [1.3 / 3, 0.4, 0.5 / 3], [0.2, 0.6, 0.2]]),
        ("vote", [2, 0, None], [[0.0, 0.0, 1.0], [2 / 3, 1 / 3, 0.0], [1 / 3, 1 / 3, 1 / 3]]),
        ("agreed", [2, None, None], [[0.1, 0.2, 0.7], [1.3 / 3, 0.4, 0.5 / 3], [0.2, 0.6, 0.2]]),
    ],
)
def test_several_classes(method, labels, scores):
    hair = Attribute(name="hair", kind="multiclass", classes=("black", "brown", "gray"))
    values = [
        [(2, [0.1, 0.2, 0.7], 1.0), (1, [0.2, 0.5, 0.3], 1.0), (0, [0.5, 0.5, 0.0], 1.0)],
        [(2, [0.1, 0.2, 0.7], 1.0), (0, [0.6, 0.3, 0.1], 1.0), (1, [0.1, 0.9, 0.0], 1.0)],
        [(2, [0.1, 0.2, 0.7], 1.0), (0, [0.5, 0.4, 0.1], 1.0), (2, [0.0, 0.4, 0.6], 1.0)],
    ]
    found = combined(values, hair, method)
    assert found["hair"] == labels
    np.testing.assert_allclose(found["hair_score"], scores, atol=1e-6)
    # Of the last image: variances .046667, .046667, .08 over the runs, half of their sum is .086667.
    np.testing.assert_allclose(found["hair_agreement"][::2], [1.0, 1 - 2 * 0.086667**0.5], atol=1e-5)


def test_a_run_is_published_with_the_kappa_of_sklearn(runs, tmp_path, capsys):
    output = tmp_path / "both"
    assert combine(*runs, "--output", output, "--method", "agreed") == 0
    shown = capsys.readouterr().out
    first, second = (scores_of(seed) for seed in (1, 2))
    kappa = cohen_kappa_score(first >= 0.5, second >= 0.5)
    equal = np.mean((first >= 0.5) == (second >= 0.5))
    assert f"hat  runs 1 and 2: {equal:.1%} of 600 labels equal, kappa {kappa:.3f}" in shown
    page = (output / "report.html").read_text()
    assert f"{kappa:.3f}" in page
    assert "Agreement of the runs" in page
    table = rows_of(output)
    assert table["image_id"].to_pylist() == NAMES
    assert table["row"].to_pylist() == list(range(600))
    expected = [int(a >= 0.5) if (a >= 0.5) == (b >= 0.5) else None for a, b in zip(first, second, strict=True)]
    assert table["hat"].to_pylist() == expected
    np.testing.assert_allclose(table["hat_score"].to_numpy(), (first.astype(float) + second) / 2, atol=1e-6)
    np.testing.assert_allclose(table["hat_agreement"].to_numpy(), 1 - np.abs(first.astype(float) - second), atol=1e-6)
    assert table["sha256"].to_pylist() == rows_of(runs[0])["sha256"].to_pylist()
    assert len(read_manifest(open_store(str(output))).files) == 3
    assert combine(*runs, "--output", output, "--method", "agreed") == 0
    assert "nothing to do: this run is finished" in capsys.readouterr().out


def test_readers_take_the_result_for_a_label_run(runs, tmp_path, capsys):
    output = tmp_path / "both"
    assert combine(*runs, "--output", output) == 0
    source = read_label_run(open_store(str(output)))
    packed = pa.concat_tables(source.read(Rejects()))
    assert packed["hat"].to_pylist() == rows_of(output)["hat"].to_pylist()
    assert source.scored == {"hat"}
    csv = tmp_path / "labels.csv"
    where = "hat_agreement < 0.5"
    assert main(["export", "labels", str(output), "--output", str(csv), "--where", where]) == 0
    count = int((np.abs(scores_of(1).astype(float) - scores_of(2)) > 0.5).sum())
    assert count > 5
    assert len(csv.read_text().splitlines()) == 1 + count
    assert main(["audit", "sample", str(output), "--output", str(tmp_path / "audit"), "--per-attribute", "20"]) == 0
    assert main(["status", str(output)]) == 0
    assert "published" in capsys.readouterr().out
    (tmp_path / "t.yaml").write_text("thresholds: {hat: 0.7}\n")
    rethreshold(LabelConfig(rethreshold=str(output), thresholds=str(tmp_path / "t.yaml")))
    again = rows_of(output)
    means = (scores_of(1).astype(float) + scores_of(2)) / 2
    assert again["hat"].to_pylist() == (means.astype(np.float32) >= 0.7).astype(int).tolist()
    assert again["hat_agreement"].null_count == 0
    # A combined run can be combined again.
    assert combine(output, runs[0], "--output", tmp_path / "third") == 0


def test_a_run_that_says_yes_late_is_as_sure_as_the_other_way_round(runs, tmp_path, capsys):
    # Even odds at 3 to 1: 9/11 becomes 4.5 / 3 = 3 to 2, sure by .2; 1/4 becomes 1 to 9, sure by .8, so a yes is .9.
    is_yes = scores_of(1) >= 0.5
    scores = np.where(is_yes, 9 / 11, 1 / 4).astype(np.float32)
    late = write_run(tmp_path / "late", scores, decisions={"hat": {"threshold": 0.75}})
    output = tmp_path / "both"
    assert combine(late, runs[1], "--output", output) == 0
    expected = (np.where(is_yes, 0.9, 0.1) + scores_of(2)) / 2
    np.testing.assert_allclose(rows_of(output)["hat_score"].to_numpy(), expected, atol=1e-5)
    moved, as_given = read_record(open_store(str(output))).fingerprint["recentrings"]
    assert (moved["hat"]["threshold"], moved["hat"]["no_slope"], as_given) == (0.75, 1.0, {})
    capsys.readouterr()
    assert combine(late, runs[1], "--output", output) == 0
    assert "nothing to do: this run is finished" in capsys.readouterr().out


def test_a_killed_command_is_resumed_and_another_one_refused(runs, tmp_path, capsys):
    output = tmp_path / "both"
    assert combine(*runs, "--output", output) == 0
    whole, page = rows_of(output), text_of(output / "report.html")
    run_id = read_record(open_store(str(output))).run_id
    kept = (output / "labels" / "shard-00000001.parquet").read_bytes()
    for left in ("_manifest.json", "report.html", "labels/shard-00000000.parquet", "labels/shard-00000002.parquet"):
        (output / left).unlink()
    assert combine(*runs, "--output", output, "--method", "vote") == 2
    assert "methods.hat: there 'mean', here 'vote'" in capsys.readouterr().err
    assert combine(*runs, "--output", output) == 0
    assert rows_of(output).equals(whole)
    assert read_record(open_store(str(output))).run_id == run_id
    assert (output / "labels" / "shard-00000001.parquet").read_bytes() == kept
    assert text_of(output / "report.html") == page
    # Killed between publishing and the report.
    (output / "report.html").unlink()
    assert combine(*runs, "--output", output) == 0
    assert text_of(output / "report.html") == page


def test_the_order_of_the_rows_does_not_matter(runs, tmp_path):
    order = np.random.default_rng(3).permutation(len(NAMES))
    shuffled = write_run(tmp_path / "shuffled", scores_of(2)[order], [NAMES[place] for place in order])
    for second, output in ((runs[1], "same"), (shuffled, "other")):
        assert combine(runs[0], second, "--output", tmp_path / output) == 0
    assert rows_of(tmp_path / "other").equals(rows_of(tmp_path / "same"))
    # In several parts, and from any row to any other.
    first, second, shuffled = (open_scored_run(run, StorageConfig()) for run in (*runs, shuffled))
    with JoinedRows(first, second, ["hat"]) as same, JoinedRows(first, shuffled, ["hat"], part_rows=100) as other:
        assert (same.same_order, other.same_order) == (True, False)
        for rows in (range(600), range(250, 600), range(511, 514), range(3)):
            assert other.read(rows).drop_columns("row").to_pydict() == same.read(rows).drop_columns("row").to_pydict()
        assert [len(table) for table in other.extra()] == [0]


def test_a_row_that_a_run_rejected_is_rejected(tmp_path):
    one = write_run(tmp_path / "one", [0.9, 0.9, 0.9], NAMES[:3], n0001=None)
    two = write_run(tmp_path / "two", [0.8, 0.8, 0.8], NAMES[:3], n0002=None)
    assert combine(one, two, "--output", tmp_path / "both") == 0
    table = rows_of(tmp_path / "both").to_pydict()
    assert table["status"] == [OK, "missing", "missing"]
    assert table["error"] == [None, "there is no such object", "there is no such object"]
    assert (table["hat"], table["hat_agreement"][1:]) == ([1, None, None], [None, None])
    assert read_manifest(open_store(str(tmp_path / "both"))).status_counts == {"missing": 2, "ok": 1}


def test_runs_of_other_images_are_refused_before_anything_is_written(runs, tmp_path, capsys):
    names = [*NAMES[:-2], "new.jpg"]
    other = write_run(tmp_path / "other", scores_of(2)[: len(names)], names)
    assert combine(runs[0], other, "--output", tmp_path / "both") == 2
    error = capsys.readouterr().err
    assert f"2 of 600 images of {runs[0]} are not in {other}: '0598.jpg', '0599.jpg'" in error
    assert f"1 of 599 images of {other} are not in {runs[0]}: 'new.jpg'" in error
    assert not (tmp_path / "both").exists()
    changed = {name: (b"another" if name == "0007.jpg" else name.encode(), answers(0.9)) for name in NAMES}
    other = write_label_run(tmp_path / "changed", ["hat"], changed, root=tmp_path)
    assert combine(runs[0], other, "--output", tmp_path / "both") == 2
    assert "1 images have another sha256: '0007.jpg'" in capsys.readouterr().err


def test_wrong_commands_say_what_to_do(runs, tmp_path, capsys):
    def error(*words):
        assert combine(*words) == 2
        return capsys.readouterr().err

    output = ["--output", tmp_path / "both"]
    assert "expected two or more run folders" in error(runs[0], *output)
    assert "expected every value once" in error(runs[0], runs[0], *output)
    assert "holds no label or prediction run" in error(runs[0], tmp_path, *output)
    assert "has no scored 'hut'; did you mean 'hat'" in error(*runs, *output, "--attributes", "hut")
    assert "'glasses' is not combined; expected one of hat" in error(*runs, *output, "--method-of", "glasses", "vote")
    derived = write_label_run(tmp_path / "derived", ["hut"], {"a.jpg": (b"1", {})}, root=tmp_path)
    path = tmp_path / "derived" / "run.json"
    path.write_text(path.read_text().replace('"derived": {}', '"derived": {"hat": "not hut"}'))
    assert "'hat' is asked in one run and derived in another" in error(
        runs[0], write_run(tmp_path / "more", [0.5], ["a.jpg"]), derived, *output, "--attributes", "hat"
    )
    other = write_label_run(tmp_path / "scarf", ["scarf"], {"a.jpg": (b"1", {})}, root=tmp_path)
    assert "share no attribute with class scores" in error(runs[0], other, *output)
    assert not (tmp_path / "both").exists()


def test_what_is_known_of_the_runs_is_in_the_record(runs, tmp_path):
    assert combine(*runs, "--output", tmp_path / "both", "--agreement") == 0
    record = json.loads((tmp_path / "both" / "run.json").read_text())
    ids = [read_record(open_store(run)).run_id for run in runs]
    assert record["fingerprint"]["combined"] == [{"run_id": each, "version": 1} for each in ids]
    assert [each["weights"] for each in record["notes"]["combined"]] == ["0" * 64, "0" * 64]
    shard = pq.read_schema(tmp_path / "both" / "labels" / "shard-00000000.parquet")
    assert shard.names[:7] == ["row", "image_id", "uri", "hat", "hat_score", "hat_mass", "hat_agreement"]
