"""No image that chose a threshold, a calibration or a weight may be judged: rows of two splits share none."""

import numpy as np
import pyarrow as pa

from faceattr.errors import RunError

_SHOWN = 3


def check_disjoint(judged: pa.Table, others: pa.Table, *, judged_name: str, others_name: str) -> None:
    """Raises RunError if two sets of rows share a row of the packed data, or an image by content.

    Args:
        judged: columns run, row, image_id, sha256.
        others: the same columns.
        judged_name: what the first is, for the message.
        others_name: what the second is.
    """
    rows = [set(zip(each["run"].to_pylist(), each["row"].to_pylist(), strict=True)) for each in (judged, others)]
    if rows[0] & rows[1]:
        run, row = min(rows[0] & rows[1])
        raise RunError(
            f"{len(rows[0] & rows[1])} rows are in {judged_name} and in {others_name}, such as row {row} of run {run}: "
            f"what is fitted on {others_name} must not be judged on its own rows"
        )
    known = set(others["sha256"].drop_null().to_pylist())
    same = np.array([digest in known for digest in judged["sha256"].to_pylist()], bool)
    if same.any():
        shown = ", ".join(judged["image_id"].filter(pa.array(same)).slice(0, _SHOWN).to_pylist())
        raise RunError(
            f"{int(same.sum())} images of {judged_name} are in {others_name} too, byte for byte, such as {shown}: "
            "figures on them would be too good. Pack the data anew with pipelines/pack.py, which keeps equal images "
            "in one split; several runs that share images must be packed as one"
        )
