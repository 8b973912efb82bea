import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from faceattr.audit.draw import count_scores, describe_scores, draw_sample
from faceattr.audit.folder import Audit, Sample
from faceattr.audit.judgements import ReviewerAnswer
from faceattr.audit.scored_table import open_scored_table
from faceattr.audit.verdicts import compare_reviewers, gather_verdicts
from faceattr.config import StorageConfig
from faceattr.errors import RunError
from tests.audit.audited_runs import draw_scores, write_scored_run


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    _, hat = draw_scores(800, share=0.4, seed=1)
    run = write_scored_run(tmp_path_factory.mktemp("run") / "labels", {"hat": hat})
    table = open_scored_table(run, StorageConfig())
    histograms = count_scores(table)
    attributes, items = draw_sample(table, histograms, {"hat": 90}, seed=0)
    audit = Audit(table=run, run_id="r", version=1, root="", bytes_column=None, seed=0, attributes=tuple(attributes))
    return Sample(audit=audit, items=items, scores=describe_scores(histograms))


def test_rows_that_nobody_can_tell_are_left_out(sample):
    rows = sample.items.to_pylist()
    strata = sample.audit["hat"].strata
    settled = {row["item"]: 1 for row in rows}
    unsure = [row["item"] for row in rows if row["stratum"] == 0][:3]
    found = gather_verdicts(sample, "hat", settled | dict.fromkeys(unsure))
    share = (strata[0].num_sampled - 3) / strata[0].num_sampled
    assert found.num_rows.tolist() == [round(strata[0].num_rows * share), *(each.num_rows for each in strata[1:])]
    assert found.num_unsure == 3
    assert found.num_left == 0


def test_rows_of_an_unjudged_stratum_count_to_the_nearest_on_their_side(sample):
    rows = sample.items.to_pylist()
    strata = sample.audit["hat"].strata
    first_yes = next(index for index, each in enumerate(strata) if each.low >= 0.5)
    # The first stratum above the threshold is not judged; its neighbour below it is nearer than it looks.
    settled = {row["item"]: 1 for row in rows if row["stratum"] != first_yes}
    found = gather_verdicts(sample, "hat", settled)
    merged = [each.num_rows for index, each in enumerate(strata) if index != first_yes]
    merged[first_yes] += strata[first_yes].num_rows
    assert found.num_rows.tolist() == merged
    assert found.num_left == strata[first_yes].num_sampled
    assert found.num_rows.sum() == 800


def test_too_few_judgements_are_refused(sample):
    with pytest.raises(RunError, match="hat: 1 of 90 items are judged"):
        gather_verdicts(sample, "hat", {0: 1})


def test_reviewers_are_compared_on_what_both_could_tell(sample):
    answers = {"ann": [1, 0, 1, 1, None, 0], "bob": [1, 1, 1, 0, 1, None], "eve": [1]}
    log = [
        ReviewerAnswer(item=item, answer=answer, reviewer=name, time_s=0.0)
        for name, given in answers.items()
        for item, answer in enumerate(given)
    ]
    found = {each.reviewers: each for each in compare_reviewers(sample, log)}
    assert set(found) == {("ann", "bob"), ("ann", "eve"), ("bob", "eve")}
    pair = found["ann", "bob"]
    assert pair.num_items == 4
    assert pair.agreement == 0.5
    assert pair.kappa == pytest.approx(cohen_kappa_score([1, 0, 1, 1], [1, 1, 1, 0]))
    assert np.isnan(found["ann", "eve"].kappa)
