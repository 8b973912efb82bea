"""Label runs with scores whose truth is known, and reviewers who say it."""

from pathlib import Path

import numpy as np

from faceattr.audit.folder import Sample, read_sample
from faceattr.audit.judgements import ANSWERS_KEY, ReviewerAnswer, append_judgements
from faceattr.data.stores.open import open_store
from tests.label_runs import write_label_run


def draw_scores(
    num_rows: int, *, share: float, seed: int, bias: float = 0.0, spread: float = 1.2
) -> tuple[np.ndarray, np.ndarray]:
    """Truth, bool [n], and float32 scores that rise with it: log odds are normal around +-1.5, shifted by `bias`."""
    generator = np.random.default_rng(seed)
    truth = generator.random(num_rows) < share
    logits = generator.normal(np.where(truth, 1.5, -1.5), spread) + bias
    return truth, (1 / (1 + np.exp(-logits))).astype(np.float32)


def write_scored_run(folder: Path, scores: dict[str, np.ndarray], decisions=None) -> str:
    """Publishes a label run with these scores; labels are yes from 0.5 on, or as `decisions` say."""
    cuts = {name: (decisions or {}).get(name, {}).get("threshold", 0.5) for name in scores}
    rows = {}
    for row in range(len(next(iter(scores.values())))):
        labels = {}
        for name, values in scores.items():
            value = float(values[row])
            labels |= {name: int(value >= cuts[name]), f"{name}_score": value, f"{name}_mass": 0.9}
        rows[f"face-{row:05}.jpg"] = (b"%d" % row, labels)
    return write_label_run(folder, list(scores), rows, root=folder / "images", decisions=decisions)


def judge_all(folder: Path, truth: dict[str, np.ndarray], reviewer: str = "ann") -> Sample:
    """Judges every item of an audit folder by the truth."""
    sample = read_sample(open_store(str(folder)))
    answers = [
        ReviewerAnswer(
            item=each["item"], answer=int(truth[each["attribute"]][each["row"]]), reviewer=reviewer, time_s=0.0
        )
        for each in sample.items.to_pylist()
    ]
    append_judgements(folder / ANSWERS_KEY, answers)
    return sample
