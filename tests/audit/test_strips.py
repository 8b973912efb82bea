"""Thumbnails in reports: which rows they show, that they show them, and that nothing is copied unless asked for."""

import base64
import io
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from faceattr.attributes import Attribute
from faceattr.audit.folder import SAMPLE_KEY
from faceattr.audit.judgements import ANSWERS_KEY, ReviewerAnswer, append_judgements
from faceattr.cli import main
from faceattr.config import ImageLimitsConfig, LabelConfig
from faceattr.data.runs.run_attributes import Decision
from faceattr.errors import ConfigError, ImageError
from faceattr.jobs.images.rethreshold import rethreshold
from faceattr.reports.strips.extremes import Extremes
from faceattr.reports.strips.images import Strip, Thumbnail, draw_strips
from tests.audit.review.servers import encode_colour
from tests.label_runs import write_label_run

NUM = 40
_STRIP = re.compile(r'<h4>([^<]+)</h4>\s*<div class="strip">(.*?)</div>', re.DOTALL)
_FIGURE = re.compile(
    r'<figure( class="mistake")?>(?:<img src="([^"]+)" alt="">|<span>(\w+)</span>)<figcaption>([^<]*)<'
)


def score_of(row):
    return (row + 0.5) / NUM


def colour_of(row):
    return (row * 6, 40, 250 - row * 6)


def write_run(folder, *, packed=False):
    """Scores rise with the row; a row's image has a colour of its own; row 1 is damaged, row 39 was rejected."""
    images = {f"{row}.jpg": encode_colour(colour_of(row), size=(300, 200)) for row in range(NUM)}
    images["1.jpg"] = images["1.jpg"][:200]
    where = {}
    if packed:
        pq.write_table(pa.table({"image": list(images.values())}), folder / "packed.parquet")
        where = {"bytes_column": "image", "file": str(folder / "packed.parquet")}
    for name, data in images.items():
        (folder / name).write_bytes(data)
    rows = {}
    for row, (name, data) in enumerate(images.items()):
        labels = {"hat": int(score_of(row) >= 0.5), "hat_score": score_of(row), "hat_mass": 1.0}
        rows[name] = (None, {}) if row == 39 else (data, labels)
    return write_label_run(folder / "run", ["hat"], rows, root=folder, **where)


def read_strips(page):
    """Title -> [(row by its colour, or the reason of a bad image; caption; whether it is marked)]."""
    found = {}
    for title, content in _STRIP.findall(page):
        found[title] = []
        for mark, picture, problem, caption in _FIGURE.findall(content):
            what = problem
            if picture:
                head, _, data = picture.partition(",")
                assert head == "data:image/jpeg;base64"
                with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                    assert image.size == (168, 112)
                    red, _, blue = np.asarray(image)[:, :70].mean((0, 1))
                what = round((red + 250 - blue) / 12)
            found[title].append((what, caption, bool(mark)))
    return found


def rows_of(strip):
    return [what for what, _, _ in strip]


def test_extremes_are_those_of_all_rows():
    rng = np.random.default_rng(0)
    scores = rng.random(1_000).astype(np.float32)
    scores[:3] = (0.2, 0.21, 0.5)
    extremes = Extremes(Attribute(name="hat"), Decision(threshold=0.2))
    for part in np.array_split(np.arange(1_000), 7):
        extremes.add(pa.table({"row": part, "score": scores[part]}))
    found = {title: rows["row"].to_pylist() for title, rows in extremes.strips().items()}
    assert found["Highest scores"] == np.argsort(-scores)[:12].tolist()
    assert found["Lowest scores"] == np.argsort(scores)[:12].tolist()
    doubt = np.abs(np.log(scores / (1 - scores)) - np.log(0.2 / 0.8))
    assert found["Most doubtful"] == np.argsort(doubt)[:12].tolist()
    hair = Extremes(Attribute(name="hair", kind="multiclass", classes=("a", "b", "c")), Decision())
    hair.add(pa.table({"row": [0, 1, 2], "score": [0.5, 0.9, 0.4]}))
    found = {title: rows["row"].to_pylist() for title, rows in hair.strips().items()}
    assert found == {"Most doubtful": [2, 0, 1], "Highest scores": [1, 0, 2]}


def test_each_image_is_read_once_and_a_bad_one_says_why():
    images = {"a": encode_colour("red"), "b": b"<html>", "c": ImageError("missing", "gone")}
    read = []

    def fetch(name):
        read.append(name)
        return images[name]

    strips = [
        Strip(title="one", thumbnails=[Thumbnail(image=name, caption=name) for name in "abc"]),
        Strip(title="two", thumbnails=[Thumbnail(image="a", caption="again", is_mistake=True)]),
        Strip(title="none", thumbnails=[]),
    ]
    first, second = draw_strips(strips, fetch, ImageLimitsConfig())
    assert sorted(read) == ["a", "b", "c"]
    assert [each.problem for each in first.thumbnails] == ["", "not_an_image", "missing"]
    assert second.thumbnails[0].picture == first.thumbnails[0].picture != ""
    assert (second.thumbnails[0].caption, second.thumbnails[0].is_mistake) == ("again", True)


def test_an_audits_report_shows_mistakes_doubts_and_the_surest(tmp_path):
    run, folder = write_run(tmp_path), tmp_path / "audit"
    assert main(["audit", "sample", run, "--output", str(folder), "--per-attribute", "39"]) == 0
    wrong = {2: 1, 10: 1, 15: 1, 36: 0}  # row to what people say
    items = pq.read_table(folder / SAMPLE_KEY).to_pylist()
    said = [
        ReviewerAnswer(item=each["item"], answer=wrong.get(each["row"], each["label"]), reviewer="a", time_s=0.0)
        for each in items
        if each["row"] != 20
    ]
    append_judgements(folder / ANSWERS_KEY, said)
    assert main(["audit", "apply", str(folder), "--thumbnails"]) == 0
    strips = read_strips((folder / "report.html").read_text())
    assert list(strips) == ["Worst mistakes", "Most doubtful", "Highest scores", "Lowest scores"]
    # Scores .0625, .9125, .2625, .3875 in float32: by their distance from .5.
    assert strips["Worst mistakes"] == [
        (2, "0.062\nno, is yes", True),
        (36, "0.913\nyes, is no", True),
        (10, "0.262\nno, is yes", True),
        (15, "0.387\nno, is yes", True),
    ]
    doubtful = rows_of(strips["Most doubtful"])
    assert set(doubtful) == set(range(14, 26))
    assert set(doubtful[:2]) == {19, 20}
    assert (20, "0.512\nyes", False) in strips["Most doubtful"]  # nobody has judged it
    assert rows_of(strips["Highest scores"]) == list(range(38, 26, -1))
    assert rows_of(strips["Lowest scores"]) == [0, "truncated", *range(2, 12)]


@pytest.mark.parametrize("packed", [False, True])
def test_a_label_report_shows_them_where_asked(packed, tmp_path):
    run = write_run(tmp_path, packed=packed)
    for version, cut in ((2, 0.4), (3, 0.3)):
        (tmp_path / "t.yaml").write_text(f"thresholds: {{hat: {cut}}}\n")
        shows = version == 3
        rethreshold(LabelConfig(rethreshold=run, thresholds=str(tmp_path / "t.yaml"), thumbnails=shows))
        page = (tmp_path / "run" / f"report-v{version}.html").read_text()
        assert ("data:image/jpeg" in page) == shows
        assert (".strip" in page) == shows
    again = LabelConfig(rethreshold=run, thresholds=str(tmp_path / "t.yaml"), thumbnails=True)
    assert "for its --thumbnails give the command that labelled the run" in rethreshold(again)
    strips = read_strips(page)
    # In log odds row 12 (.3125) is .06 from the new threshold .3, row 11 (.2875) is .06 and row 13 (.3375) .17.
    assert set(rows_of(strips["Most doubtful"])[:2]) == {11, 12}
    assert strips["Highest scores"][0] == (38, "0.962", False)
    assert rows_of(strips["Highest scores"]) == list(range(38, 26, -1))
    assert rows_of(strips["Lowest scores"]) == [0, "truncated", *range(2, 12)]


def test_a_prediction_run_has_no_report_to_show_them_in(tmp_path):
    run = write_run(tmp_path)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**record, "kind": "prediction"}))
    (tmp_path / "t.yaml").write_text("thresholds: {hat: 0.4}\n")
    with pytest.raises(ConfigError, match=r"--thumbnails: .* is a prediction run, whose versions have no report"):
        rethreshold(LabelConfig(rethreshold=run, thresholds=str(tmp_path / "t.yaml"), thumbnails=True))
