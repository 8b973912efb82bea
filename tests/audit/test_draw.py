import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from faceattr.audit.draw import count_scores, draw_sample, share_budget
from faceattr.audit.scored_table import open_scored_table
from faceattr.audit.strata import ScoreHistogram
from faceattr.config import StorageConfig
from faceattr.errors import ConfigError
from tests.audit.audited_runs import draw_scores, write_scored_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    _, hat = draw_scores(600, share=0.3, seed=1)
    _, rare = draw_scores(600, share=0.03, seed=2, bias=-1.5)
    folder = tmp_path_factory.mktemp("run") / "labels"
    return write_scored_run(folder, {"hat": hat, "rare": rare}), {"hat": hat, "rare": rare}


def drawn(address, count, seed=0, names=()):
    table = open_scored_table(address, StorageConfig(), names)
    histograms = count_scores(table)
    return draw_sample(table, histograms, dict.fromkeys(table.attributes, count), seed=seed)


def test_items_are_the_table_s_own_rows_and_strata_count_them(run):
    address, scores = run
    attributes, items = drawn(address, 60)
    assert items["item"].to_pylist() == list(range(120))
    for row in items.to_pylist():
        expected = float(scores[row["attribute"]][row["row"]])
        assert row["score"] == expected
        assert row["label"] == int(expected >= 0.5)
        assert row["image_id"] == f"face-{row['row']:05}.jpg"
        (audited,) = [each for each in attributes if each.attribute.name == row["attribute"]]
        stratum = audited.strata[row["stratum"]]
        assert stratum.low <= expected < stratum.high
        assert row["probability"] == pytest.approx(stratum.num_sampled / stratum.num_rows)
    for each in attributes:
        assert each.num_rows == 600
        rows = [row for row in items.to_pylist() if row["attribute"] == each.attribute.name]
        assert len({row["row"] for row in rows}) == 60
        counts = np.bincount([row["stratum"] for row in rows], minlength=len(each.strata))
        assert counts.tolist() == [stratum.num_sampled for stratum in each.strata]


def test_the_seed_decides_the_rows(run):
    first, again, other = (drawn(run[0], 40, seed)[1] for seed in (0, 0, 1))
    assert first.equals(again)
    assert first["row"].to_pylist() != other["row"].to_pylist()


def test_every_row_of_a_stratum_is_drawn_equally_often(run):
    address, _ = run
    counts = np.zeros(600)
    for seed in range(80):
        counts[drawn(address, 60, seed, ("hat",))[1]["row"].to_numpy()] += 1
    attributes, items = drawn(address, 60, 0, ("hat",))
    table = open_scored_table(address, StorageConfig(), ("hat",))
    scores = pa.concat_tables(table.read())["hat_score"].to_numpy()
    for stratum in attributes[0].strata:
        here = counts[(scores >= stratum.low) & (scores < stratum.high)]
        share = stratum.num_sampled / stratum.num_rows
        # Binomial counts of 80 draws: chi-square per degree of freedom is 1 within a few tenths.
        if 0 < share < 1 and len(here) >= 20:
            assert here.var() / (80 * share * (1 - share)) == pytest.approx(1, abs=0.7)
            assert here.mean() == pytest.approx(80 * share)
    assert len(items) == 60


def test_rows_without_a_score_are_left_out(tmp_path):
    table = pa.table({"uri": ["a", "b", "/faces/c"], "hat_score": pa.array([0.2, None, 0.9], pa.float32())})
    pq.write_table(table, tmp_path / "scores.parquet")
    _, items = drawn(str(tmp_path / "scores.parquet"), 10)
    found = zip(items["image_id"].to_pylist(), items["uri"].to_pylist(), items["label"].to_pylist(), strict=True)
    assert sorted(found) == [("/faces/c", "/faces/c", 1), ("a", f"{tmp_path}/a", 0)]


def test_a_table_without_scores_or_addresses_is_refused(tmp_path, run):
    pq.write_table(pa.table({"uri": ["a"], "hat": [1]}), tmp_path / "labels.parquet")
    with pytest.raises(ConfigError, match="no class scores of any attribute"):
        open_scored_table(str(tmp_path / "labels.parquet"), StorageConfig())
    pq.write_table(pa.table({"name": ["a"], "hat_score": [1.0]}), tmp_path / "unnamed.parquet")
    with pytest.raises(ConfigError, match="neither a column uri nor image_path"):
        open_scored_table(str(tmp_path / "unnamed.parquet"), StorageConfig())
    names = pa.array([b"\xff.jpg"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"uri": names, "hat_score": [1.0]}), tmp_path / "latin.parquet")
    with pytest.raises(ConfigError, match=r"latin\.parquet cannot be read as a table: .*UTF8"):
        list(open_scored_table(str(tmp_path / "latin.parquet"), StorageConfig()).read())
    with pytest.raises(ConfigError, match="no class scores of beard; it has scores of: hat, rare"):
        open_scored_table(run[0], StorageConfig(), ("beard",))
    with pytest.raises(ConfigError, match="no label or prediction run"):
        open_scored_table(str(tmp_path), StorageConfig())


def test_a_budget_goes_where_intervals_are_wide():
    def histogram(scores):
        found = ScoreHistogram(0.5)
        found.add(np.asarray(scores, np.float32))
        return found

    sure = histogram([0.001] * 500 + [0.999] * 500)
    doubtful = histogram([0.3] * 500 + [0.7] * 500)
    shares = share_budget({"sure": sure, "doubtful": doubtful}, 400)
    # sure: mean sqrt(p (1 - p)) is (.0316 + .2179) / 2 over a share of .4755; doubtful: .4583 over .5. The squares are
    # .0688 and .840, so 340 judgements beyond 30 each are divided 25.7 to 314.3.
    assert shares == {"sure": 55, "doubtful": 344}
