"""Report page of a search."""

from collections.abc import Mapping, Sequence
from typing import Any

from faceattr.data.runs.version import RunRecord
from faceattr.reports.pages import render_page
from faceattr.reports.plots.pictures import to_data_uri
from faceattr.reports.plots.search import draw_coordinates, draw_front, draw_histories, draw_importances
from faceattr.search.comparison.draws import NUM_RESAMPLES
from faceattr.search.comparison.front import find_front
from faceattr.search.comparison.repeats import RepeatedTrial
from faceattr.search.comparison.ties import QUANTILE, compare_trials, describe_ties, find_ties
from faceattr.search.records import TrialRecord
from faceattr.search.sampler import compute_importances
from faceattr.search.space import Space

_MOST_ROWS = 50


def render_search_report(
    record: RunRecord,
    space: Space,
    trials: Sequence[TrialRecord],
    best: TrialRecord,
    *,
    notes: Sequence[str],
    test: Mapping[str, Any] | None,
    best_config: str,
    num_val: int,
    repeats: Sequence[RepeatedTrial] = (),
    kept_front: bool = False,
) -> str:
    """Renders the page as a single HTML file with embedded plots.

    Args:
        record: record of the run.
        space: search space.
        trials: finished trials, by number.
        best: best trial.
        notes: decisions about caches.
        test: figures of the best trial on the test split, if there is one.
        best_config: settings of the best trial as YAML.
        num_val: number of validation images.
        repeats: trials that were repeated with other seeds, the winner first.
        kept_front: whether the models of the front are kept.
    """
    judged = [trial for trial in trials if trial.judgement is not None]
    ranked = sorted(judged, key=lambda each: -each.judgement.objective)  # type: ignore[union-attr]
    ranked.sort(key=lambda each: each.number != best.number)  # the winner first, also if its mean decided
    assert best.judgement is not None
    importances = compute_importances(space, trials)
    with_auxiliary = [trial for trial in judged if trial.judgement and trial.judgement.auxiliary is not None]
    return render_page(
        "search_report.html",
        record=record,
        keys=list(space.searched),
        ranked=ranked[:_MOST_ROWS],
        num_judged=len(judged),
        failed=[trial for trial in trials if trial.status == "failed"],
        counts={
            status: sum(trial.status == status for trial in trials) for status in ("finished", "stopped", "failed")
        },
        best=best,
        differences={each.number: compare_trials(best.judgement, each.judgement) for each in judged if each.judgement},
        tied={each.number for each in find_ties(best, trials)},
        ties=describe_ties(best, trials) if best.judgement.draws else None,
        quantile=QUANTILE,
        num_resamples=NUM_RESAMPLES,
        num_val=num_val,
        repeats=repeats,
        kept_front=kept_front,
        notes=notes,
        test=test,
        best_config=best_config,
        coordinates=to_data_uri(draw_coordinates(space, trials, best)),
        importances=to_data_uri(draw_importances(importances)) if importances else None,
        front=to_data_uri(draw_front(with_auxiliary, best)) if with_auxiliary else None,
        front_names=[trial.name for trial in find_front(with_auxiliary)],
        histories=to_data_uri(draw_histories(judged, best)) if any(len(each.history) > 1 for each in judged) else None,
    )
