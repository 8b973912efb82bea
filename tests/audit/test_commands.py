import json

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from faceattr.cli import main
from faceattr.config import LabelConfig
from faceattr.config.evaluate import Criterion
from faceattr.data.runs.version import RunVersion, read_manifest, read_published, read_record
from faceattr.data.sources.layouts.published import read_label_run
from faceattr.data.sources.source import Rejects
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError
from faceattr.evaluation.thresholds import choose_threshold
from faceattr.jobs.images.rethreshold import rethreshold
from tests.audit.audited_runs import draw_scores, judge_all, write_scored_run


@pytest.fixture
def audited(tmp_path):
    """A run of 3,000 rows whose scores are shifted, its truth, and its audit of 400 judgements."""
    truth, scores = {}, {}
    for name, seed, bias in (("hat", 1, -1.5), ("glasses", 2, 1.0), ("facial_hair", 3, -0.5)):
        truth[name], scores[name] = draw_scores(3_000, share=0.4, seed=seed, bias=bias)
    run = write_scored_run(tmp_path / "labels", scores)
    folder = tmp_path / "audit"
    assert main(["audit", "sample", run, "--output", str(folder), "--budget", "400"]) == 0
    judge_all(folder, truth)
    return run, folder, truth, scores


def test_four_hundred_judgements_find_the_thresholds_of_the_whole_truth(audited, capsys):
    run, folder, truth, scores = audited
    assert main(["audit", "apply", str(folder)]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "result.json").read_text())["attributes"]
    ratios = []
    for name in truth:
        said = scores[name] >= 0.5
        figures = found[name]["figures"]
        exact = {
            "precision": precision_score(truth[name], said),
            "recall": recall_score(truth[name], said),
            "f1": f1_score(truth[name], said),
            "prevalence": truth[name].mean(),
        }
        for figure, value in exact.items():
            assert figures[figure]["low"] - 0.03 <= value <= figures[figure]["high"] + 0.03, (name, figure)
            assert f"{figures[figure]['value']:.3f}" in shown
        best = choose_threshold(truth[name].astype(int), scores[name], Criterion())
        chosen = scores[name] >= found[name]["after"]["threshold"]
        ratios.append(f1_score(truth[name], chosen) / f1_score(truth[name], scores[name] >= best))
    assert np.mean(ratios) >= 0.98, ratios
    page = (folder / "report.html").read_text()
    assert page.count("data:image/svg+xml;base64,") == 6
    assert run in page


def test_a_run_is_labelled_again_by_the_thresholds(audited, tmp_path):
    run, folder, _, scores = audited
    assert main(["audit", "apply", str(folder)]) == 0
    text = rethreshold(LabelConfig(rethreshold=run, thresholds=str(folder / "thresholds.yaml")))
    assert "published version 2: 3,000 rows" in text
    store = open_store(run)
    found = json.loads((folder / "result.json").read_text())["attributes"]
    table = pa.concat_tables(read_published(store))
    for name, values in scores.items():
        cut = found[name]["after"]["threshold"]
        expected = (values.astype(np.float64) >= cut).astype(int)
        assert table[name].to_pylist() == expected.tolist()
        assert table[f"{name}_score"].to_pylist() == values.tolist()
        before = (values >= 0.5).astype(int)
        assert f"{(before != expected).sum():,} labels changed" in text
    assert table["row"].to_pylist() == list(range(3_000))
    assert rethreshold(LabelConfig(rethreshold=run, thresholds=str(folder / "thresholds.yaml"))) == (
        "nothing to do: version 2 has these thresholds"
    )
    # Readers take the new thresholds for the boundary between no and yes.
    source = read_label_run(store)
    assert {name: each.threshold for name, each in source.decisions.items()} == {
        name: found[name]["after"]["threshold"] for name in scores
    }
    # The same labels come of the first version with the file.
    again = read_label_run(open_store(run), thresholds=source.decisions)
    rows = [pa.concat_tables(each.read(Rejects())) for each in (source, again)]
    assert rows[0].equals(rows[1])
    # A later version with other thresholds keeps what it does not name.
    other = tmp_path / "other.yaml"
    other.write_text("thresholds: {hat: 0.9}\n")
    rethreshold(LabelConfig(rethreshold=run, thresholds=str(other)))
    manifest = read_manifest(store)
    assert manifest.version == 3
    assert manifest.decisions["hat"] == {"threshold": 0.9, "abstain": None}
    assert manifest.decisions["glasses"]["threshold"] == found["glasses"]["after"]["threshold"]


def test_a_killed_relabelling_is_resumed_and_one_with_other_thresholds_does_not_mix(audited, tmp_path):
    run, _, _, scores = audited
    store, record = open_store(run), read_record(open_store(run))
    schema = next(iter(read_published(store))).schema
    # What a killed session leaves: one shard of other thresholds in a folder of its own.
    begun = RunVersion(store, record, schema, decisions={"hat": {"threshold": 0.99, "abstain": None}})
    leftover = tmp_path / "labels" / begun.folder / "shard-00000000.parquet"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes((tmp_path / "labels" / "labels" / "shard-00000000.parquet").read_bytes())
    (tmp_path / "t.yaml").write_text("thresholds: {hat: 0.2}\n")
    rethreshold(LabelConfig(rethreshold=run, thresholds=str(tmp_path / "t.yaml")))
    table = pa.concat_tables(read_published(store))
    assert table["hat"].to_pylist() == (scores["hat"].astype(np.float64) >= 0.2).astype(int).tolist()


def test_nothing_to_relabel_is_refused(tmp_path):
    (tmp_path / "t.yaml").write_text("thresholds: {hat: 0.2}\n")
    with pytest.raises(ConfigError, match="expected a published label or prediction run"):
        rethreshold(LabelConfig(rethreshold=str(tmp_path), thresholds=str(tmp_path / "t.yaml")))
    with pytest.raises(ConfigError, match="thresholds"):
        LabelConfig(rethreshold=str(tmp_path))
    with pytest.raises(ConfigError, match="no --images and --output"):
        LabelConfig(rethreshold=str(tmp_path), thresholds="t.yaml", images="a", output="b")
    with pytest.raises(ConfigError, match="images"):
        LabelConfig(output="b")


@pytest.mark.parametrize(("shift", "doubtful"), [(0.0, True), (-4.0, False)])
def test_it_is_said_if_the_judgements_do_not_tell_the_thresholds_apart(shift, doubtful, tmp_path, capsys):
    """Scores that are probabilities, for which 0.5 is nearly best, and the same with log odds that are 4 too low."""
    rng = np.random.default_rng(0)
    scores = rng.beta(0.15, 0.15, 2_000).clip(1e-6, 1 - 1e-6)
    truth = rng.random(2_000) < scores
    odds = scores / (1 - scores) * np.exp(shift)
    run = write_scored_run(tmp_path / "labels", {"hat": (odds / (1 + odds)).astype(np.float32)})
    assert main(["audit", "sample", run, "--output", str(tmp_path / "audit"), "--per-attribute", "60"]) == 0
    judge_all(tmp_path / "audit", {"hat": truth})
    assert main(["audit", "apply", str(tmp_path / "audit")]) == 0
    assert ("these judgements do not tell whether" in capsys.readouterr().out) == doubtful


def test_what_cannot_be_applied_is_one_sentence(tmp_path, capsys):
    _, scores = draw_scores(200, share=0.4, seed=1)
    run = write_scored_run(tmp_path / "labels", {"hat": scores})
    assert main(["audit", "apply", str(tmp_path / "audit")]) == 2
    assert "has no audit.json; make an audit with: faceattr audit sample RUN" in capsys.readouterr().err
    assert main(["audit", "sample", run, "--output", str(tmp_path / "audit"), "--per-attribute", "20"]) == 0
    assert main(["audit", "apply", str(tmp_path / "audit")]) == 2
    assert "has no judgements yet" in capsys.readouterr().err
    assert main(["audit", "sample", run, "--output", str(tmp_path / "audit")]) == 2
    assert "already has an audit" in capsys.readouterr().err
    judge_all(tmp_path / "audit", {"hat": np.zeros(200, bool)})
    assert main(["audit", "apply", str(tmp_path / "audit")]) == 0
    assert "note: a calibration needs judged items of both kinds" in capsys.readouterr().out
    assert not (tmp_path / "audit" / "thresholds.yaml").exists()
