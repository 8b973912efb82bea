"""Report page of a search."""

from collections.abc import Mapping, Sequence
from typing import Any

from faceattr.data.runs.version import RunRecord
from faceattr.reports.pages import render_page
from faceattr.reports.plots.pictures import to_data_uri
from faceattr.reports.plots.search import draw_coordinates, draw_front, draw_histories, draw_importances, find_front
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
    """
    judged = [trial for trial in trials if trial.judgement is not None]
    ranked = sorted(judged, key=lambda each: -each.judgement.objective)  # type: ignore[union-attr]
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
        notes=notes,
        test=test,
        best_config=best_config,
        coordinates=to_data_uri(draw_coordinates(space, trials, best)),
        importances=to_data_uri(draw_importances(importances)) if importances else None,
        front=to_data_uri(draw_front(with_auxiliary, best)) if with_auxiliary else None,
        front_names=[trial.name for trial in find_front(with_auxiliary)],
        histories=to_data_uri(draw_histories(judged, best)) if any(len(each.history) > 1 for each in judged) else None,
    )
