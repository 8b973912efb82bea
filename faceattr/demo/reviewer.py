"""A reviewer for the demo: says of every face in an audit what was drawn."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from faceattr.audit.folder import read_sample
from faceattr.audit.judgements import ANSWERS_KEY, ReviewerAnswer, append_judgements
from faceattr.audit.result import RESULT_KEY
from faceattr.data.stores.open import open_store
from faceattr.demo.side_by_side import Quality


def judge_by_truth(folder: Path, truth: pa.Table) -> int:
    """Judges all items of an audit folder and returns their number.

    Args:
        folder: the audit folder.
        truth: `image_path` and a column with 0 or 1 per attribute.
    """
    answers = {row["image_path"]: row for row in truth.to_pylist()}
    items = read_sample(open_store(str(folder))).items.to_pylist()
    judgements = [
        ReviewerAnswer(
            item=each["item"],
            answer=answers[each["image_id"].rpartition("/")[2]][each["attribute"]],
            reviewer="truth",
            time_s=time.time(),
        )
        for each in items
    ]
    append_judgements(folder / ANSWERS_KEY, judgements)
    return len(judgements)


def describe_audit(folder: Path, qualities: Sequence[Quality]) -> str:
    """Returns what an audit measured beside the truth, a line per attribute.

    Args:
        folder: the audit folder, after `faceattr audit apply`.
        qualities: quality of all labels, by attribute.
    """
    found = json.loads((folder / RESULT_KEY).read_text())["attributes"]
    lines = [f"{'':14}true F1  F1 by the judgements"]
    for each in qualities:
        f1 = found[each.attribute]["figures"]["f1"]
        lines.append(f"{each.attribute:14}{each.f1:7.3f}  {f1['value']:.3f} [{f1['low']:.3f}, {f1['high']:.3f}]")
    return "\n".join(lines)
