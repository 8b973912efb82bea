"""Labels and outputs of a scored table, read as they were written."""

import numpy as np
import pyarrow as pa

from faceattr.attributes import Attribute
from faceattr.data.label_columns import label_fields, output_columns
from faceattr.evaluation.judged import read_judged


def test_a_coarse_label_of_sixty_classes_keeps_its_last_and_its_first_class():
    # 2**59 + 1 is no float64; beside a row without a mask, NumPy would hold the column as such.
    brand = Attribute(name="brand", kind="multiclass", classes=tuple(f"c{index}" for index in range(60)))
    label, mask = label_fields(brand)
    (output,) = output_columns(brand)
    outputs = np.eye(60, dtype=np.float32)[[0, 5]]
    table = pa.table(
        {
            "brand": pa.array([None, 5], label.type),
            "brand_mask": pa.array([2**59 + 1, None], mask.type),
            "output_brand": pa.array(outputs.tolist(), output.type),
        }
    )
    judged = read_judged(table, brand, scores=outputs, thresholds={})
    assert judged.coarse is not None
    possible, predictions = judged.coarse
    assert np.flatnonzero(possible[0]).tolist() == [0, 59]
    assert predictions.tolist() == [0]
    assert judged.labels.tolist() == [5]
