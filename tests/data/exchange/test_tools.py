"""Label Studio, CVAT and FiftyOne: the files that are written and what their exports say, by their documents."""

import json
import xml.etree.ElementTree as ET
import zipfile

import pytest

from faceattr.attributes import Attribute
from faceattr.data.exchange.formats import TOOLS
from faceattr.data.exchange.label_tables import keep_last_answers
from faceattr.data.exchange.tasks import Answer, ImageTask, PredictedClass, check_can_be_chosen
from faceattr.errors import ConfigError

HAT = Attribute(name="hat")
HAIR = Attribute(name="hair", kind="multiclass", classes=("black & grey", "brown"))
TASKS = [
    ImageTask(
        image_id='a "1"/b.jpg',
        uri="s3://faces/a/b.jpg",
        size_px=(40, 30),
        predictions={"hat": PredictedClass(label=1, confidence=0.75), "hair": PredictedClass(label=0, confidence=0.5)},
        facts={"row": 7, "hat_score": 0.75},
    ),
    ImageTask(image_id="c d.png", uri="/faces/c d.png"),
]


def test_label_studio_tasks(tmp_path):
    path = tmp_path / "tasks.json"
    assert TOOLS["label-studio"].write(path, TASKS, (HAT, HAIR)) == 2
    first, second = json.loads(path.read_text())
    assert first["data"] == {
        "image": "s3://faces/a/b.jpg",
        "image_id": 'a "1"/b.jpg',
        "row": 7,
        "hat_score": 0.75,
    }
    (prediction,) = first["predictions"]
    assert prediction["score"] == 0.5
    assert prediction["result"] == [
        {"from_name": "hat", "to_name": "image", "type": "choices", "value": {"choices": ["yes"]}, "score": 0.75},
        {
            "from_name": "hair",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": ["black & grey"]},
            "score": 0.5,
        },
    ]
    assert second == {"data": {"image": "/data/local-files/?d=c%20d.png", "image_id": "c d.png"}}
    view = ET.fromstring((tmp_path / "tasks.config.xml").read_text())
    assert view.find("Image").attrib == {"name": "image", "value": "$image"}
    offered = {each.get("name"): [choice.get("value") for choice in each] for each in view.findall("Choices")}
    assert offered == {"hat": ["no", "yes", "cannot tell"], "hair": ["black & grey", "brown", "cannot tell"]}
    assert {each.get("toName") for each in view.findall("Choices")} == {"image"}


def test_label_studio_export(tmp_path):
    def choice(name, *texts):
        return {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": list(texts)}, "id": "x"}

    def task(image, *annotations):
        return {
            "id": 1,
            "data": {"image": "s3://x", "image_id": image},
            "annotations": list(annotations),
            "predictions": [],
        }

    box = {"from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": {"x": 1}}
    time = "1970-01-02T00:00:00.500000Z"
    export = [
        task(
            "a", {"result": [choice("hat", "yes"), box, choice("hair", "brown")], "completed_by": 3, "updated_at": time}
        ),
        task("b", {"result": [choice("hat", "cannot tell")], "completed_by": {"id": 4, "email": "ann@x.example"}}),
        task("c", {"result": [choice("hat", "no")], "completed_by": 3, "was_cancelled": True}, {"result": []}),
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(export))
    assert list(TOOLS["label-studio"].read(path)) == [
        Answer(image="a", attribute="hat", text="yes", reviewer="3", time_s=86_400.5),
        Answer(image="a", attribute="hair", text="brown", reviewer="3", time_s=86_400.5),
        Answer(image="b", attribute="hat", text="cannot tell", reviewer="ann@x.example"),
    ]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no json", "no JSON"),
        ('{"a": 1}', "expected a list of tasks"),
        (
            '[{"image": "x", "hat": "yes"}]',
            "task 1: expected data and annotations; export the project in the format JSON",
        ),
        ('[{"data": {}, "annotations": []}]', "task 1: data has neither image_id nor image"),
        ('[{"data": {"image": "x"}, "annotations": [{}]}]', "an annotation without a list `result`"),
        (
            '[{"data": {"image": "x"}, "annotations": [{"result": [{"type": "choices", "from_name": "hat", '
            '"value": {"choices": ["yes", "no"]}}]}]}]',
            "'hat': expected one choice, found ['yes', 'no']",
        ),
    ],
)
def test_what_is_no_label_studio_export(tmp_path, text, found):
    path = tmp_path / "export.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        list(TOOLS["label-studio"].read(path))
    assert found in str(caught.value)


def test_cvat_annotations(tmp_path):
    path = tmp_path / "annotations.xml"
    assert TOOLS["cvat"].write(path, TASKS, (HAT, HAIR)) == 2
    root = ET.parse(path).getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    names = ["hat=no", "hat=yes", "hat=cannot tell", "hair=black & grey", "hair=brown", "hair=cannot tell"]
    assert [each.findtext("name") for each in root.iterfind("meta/task/labels/label")] == names
    first, second = root.findall("image")
    assert first.attrib == {"id": "0", "name": 'a "1"/b.jpg', "width": "40", "height": "30"}
    assert [each.attrib for each in first] == [
        {"label": "hat=yes", "source": "auto"},
        {"label": "hair=black & grey", "source": "auto"},
    ]
    assert (second.attrib, len(second)) == ({"id": "1", "name": "c d.png"}, 0)
    labels = json.loads((tmp_path / "annotations.labels.json").read_text())
    assert labels[0] == {"name": "hat=no", "type": "tag", "attributes": []}
    assert [each["name"] for each in labels] == names
    assert list(TOOLS["cvat"].read(path)) == []  # predictions that nobody touched are no answers


CVAT_EXPORT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>4</id><name>hats</name><labels><label><name>hat=yes</name></label></labels></task></meta>
  <image id="0" name="a &quot;1&quot;/b.jpg" width="40" height="30">
    <tag label="hat=yes" source="manual"></tag>
    <tag label="hair=black &amp; grey" source="semi-auto"></tag>
    <tag label="hat=no" source="auto"></tag>
    <tag label="blurred" source="manual"></tag>
    <box label="hat=no" source="manual" occluded="0" xtl="1" ytl="1" xbr="2" ybr="2" z_order="0"></box>
  </image>
  <image id="1" name="c d.png" width="40" height="30"><tag label="hat=cannot tell"></tag></image>
</annotations>
"""
CVAT_ANSWERS = [
    Answer(image='a "1"/b.jpg', attribute="hat", text="yes"),
    Answer(image='a "1"/b.jpg', attribute="hair", text="black & grey"),
    Answer(image="c d.png", attribute="hat", text="cannot tell"),
]


def test_cvat_export_as_xml_and_as_zip(tmp_path):
    path = tmp_path / "annotations.xml"
    path.write_text(CVAT_EXPORT)
    assert list(TOOLS["cvat"].read(path)) == CVAT_ANSWERS
    with zipfile.ZipFile(tmp_path / "task.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "annotations.xml")
    assert list(TOOLS["cvat"].read(tmp_path / "task.zip")) == CVAT_ANSWERS


def test_cvat_export_of_many_images_is_read_piece_by_piece(tmp_path):
    count = 5_000
    images = "".join(f'<image id="{n}" name="{n}.jpg"><tag label="hat=yes"/></image>\n' for n in range(count))
    path = tmp_path / "annotations.xml"
    path.write_text(f"<annotations>{images}</annotations>")
    found = list(TOOLS["cvat"].read(path))
    assert [each.image for each in found] == [f"{n}.jpg" for n in range(count)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hat,yes\n", "no XML of CVAT"),
        ("<annotations><image id='0'>", "no XML of CVAT"),
        ("<annotation><filename>a</filename></annotation>", "expected <annotations>, found <annotation>"),
        ('<!DOCTYPE x [<!ENTITY a "aaaa">]><annotations>&a;</annotations>', "a document type with entities"),
    ],
)
def test_what_is_no_cvat_export(tmp_path, text, found):
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        list(TOOLS["cvat"].read(path))
    assert found in str(caught.value)


def test_fiftyone_folders(tmp_path):
    assert TOOLS["fiftyone"].write(tmp_path / "out", TASKS, (HAT, HAIR)) == 2
    assert json.loads((tmp_path / "out" / "hat" / "labels.json").read_text()) == {
        "classes": ["no", "yes", "cannot tell"],
        "labels": {'a "1"/b': {"label": 1, "confidence": 0.75}, "/faces/c d.png": None},
    }
    hair = json.loads((tmp_path / "out" / "hair" / "labels.json").read_text())
    assert hair["labels"]['a "1"/b'] == {"label": 0, "confidence": 0.5}


@pytest.mark.parametrize(
    "content",
    [
        {"classes": ["no", "yes", "cannot tell"], "labels": {"/f/a.jpg": 1, "/f/b.jpg": 2, "/f/c.jpg": None}},
        {"classes": None, "labels": {"/f/a.jpg": "yes", "/f/b.jpg": "cannot tell"}},
        {"classes": ["no", "yes", "cannot tell"], "labels": {"/f/a.jpg": {"label": 1}, "/f/b.jpg": {"label": 2}}},
        {"labels": {"/f/a.jpg": {"label": "yes", "attributes": {}}, "/f/b.jpg": {"label": "cannot tell"}}},
    ],
)
def test_fiftyone_export_in_each_documented_form(tmp_path, content):
    file = tmp_path / "hat" / "labels.json"
    file.parent.mkdir()
    file.write_text(json.dumps(content))
    expected = [
        Answer(image="/f/a.jpg", attribute="hat", text="yes"),
        Answer(image="/f/b.jpg", attribute="hat", text="cannot tell"),
    ]
    for path in (tmp_path, file.parent, file):
        assert list(TOOLS["fiftyone"].read(path)) == expected


def test_what_is_no_fiftyone_export(tmp_path):
    with pytest.raises(ConfigError, match=r"expected labels\.json"):
        list(TOOLS["fiftyone"].read(tmp_path))
    file = tmp_path / "labels.json"
    for text, found in (("x", "no JSON"), ("{}", "expected an object"), ('{"labels": {"a": 9}}', "found 9")):
        file.write_text(text)
        with pytest.raises(ConfigError, match=found):
            list(TOOLS["fiftyone"].read(file))


def test_of_several_answers_of_one_reviewer_the_last_counts_and_contradictions_do_not():
    def answer(image, text, reviewer, time_s=None):
        return Answer(image=image, attribute="hat", text=text, reviewer=reviewer, time_s=time_s)

    given = [
        answer("a", "yes", "ann", 2.0),
        answer("a", "no", "ann", 1.0),
        answer("a", "no", "bob"),
        answer("b", "yes", None),
        answer("b", "no", None),
        answer("c", "yes", None),
        answer("c", "yes", None),
    ]
    found = keep_last_answers(given)
    assert found.answers == (given[0], given[2], given[5])
    assert found.num_contradictory == 1


@pytest.mark.parametrize(
    ("attribute", "found"),
    [
        (Attribute(name="age", kind="age", classes=()), "its labels are years"),
        (Attribute(name="who", kind="identity", classes=("ann", "bob")), "its labels are persons"),
        (Attribute(name="x", kind="multiclass", classes=("a", "cannot tell")), "the answer of who cannot tell"),
    ],
)
def test_attributes_that_no_tool_can_offer(attribute, found):
    with pytest.raises(ConfigError) as caught:
        check_can_be_chosen([HAT, attribute])
    assert found in str(caught.value)
