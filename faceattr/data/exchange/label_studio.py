"""Label Studio: tasks as JSON with predictions, a labelling configuration, and the annotations of its JSON export.

    tasks.json          [{"data": {"image", "image_id", ...}, "predictions": [{"model_version", "score", "result"}]}]
    tasks.config.xml    <View> with an <Image> and one <Choices> for each attribute: Settings, Labeling Interface, Code

An image in a bucket keeps its s3:// address, for which the project needs a cloud storage. A local image is named as
`/data/local-files/?d=KEY`, relative to the images' root: start Label Studio with that root as
LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT and LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true.

The layouts follow Label Studio's documentation: "Label Studio task format", "Import pre-annotated data" and
"Choices".
"""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from faceattr.attributes import Attribute
from faceattr.data.exchange.tasks import Answer, ImageTask, PredictedClass, choices_of
from faceattr.data.formats.json_text import encode_json
from faceattr.data.stores.local_files import new_text_file
from faceattr.errors import ConfigError

_MODEL = "faceattr"
_YES_NO_KEYS = {"yes": "y", "no": "n", "cannot tell": "u"}


def write_label_studio(path: Path, tasks: Iterable[ImageTask], attributes: tuple[Attribute, ...]) -> int:
    """Writes the tasks and, as `<name>.config.xml` beside them, the labelling configuration; returns their number."""
    count = 0
    with new_text_file(path) as file:
        for task in tasks:
            file.write((",\n" if count else "[\n") + encode_json(_encode_task(task, attributes)))
            count += 1
        file.write("\n]\n" if count else "[]\n")
    with new_text_file(path.with_name(f"{path.stem}.config.xml")) as file:
        file.write(build_configuration(attributes))
    return count


def build_configuration(attributes: tuple[Attribute, ...]) -> str:
    """Returns the labelling configuration: the image, and one question for each attribute."""
    lines = ["<View>", '  <Image name="image" value="$image"/>']
    for each in attributes:
        lines += [
            f"  <Header value={quoteattr(each.name)}/>",
            f'  <Choices name={quoteattr(each.name)} toName="image" choice="single" showInline="true">',
        ]
        for place, choice in enumerate(choices_of(each)):
            # Keys only where they are unique: with several attributes Label Studio gives its own.
            key = _YES_NO_KEYS[choice] if each.is_yes_no else str(place + 1) if place < 9 else None
            hotkey = f" hotkey={quoteattr(key)}" if key and len(attributes) == 1 else ""
            lines.append(f"    <Choice value={quoteattr(choice)}{hotkey}/>")
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>", ""])


def _encode_task(task: ImageTask, attributes: tuple[Attribute, ...]) -> dict[str, Any]:
    image = task.uri if "://" in task.uri else f"/data/local-files/?d={quote(task.image_id)}"
    encoded: dict[str, Any] = {"data": {"image": image, "image_id": task.image_id, **task.facts}}
    results = [
        _encode_prediction(each, task.predictions[each.name]) for each in attributes if each.name in task.predictions
    ]
    if results:
        known = [each["score"] for each in results if "score" in each]
        # The task's score is that of its least certain answer: Label Studio sorts tasks by it.
        score = {"score": min(known)} if known else {}
        encoded["predictions"] = [{"model_version": _MODEL, **score, "result": results}]
    return encoded


def _encode_prediction(attribute: Attribute, prediction: PredictedClass) -> dict[str, Any]:
    score = {} if prediction.confidence is None else {"score": prediction.confidence}
    value = {"choices": [attribute.classes[prediction.label]]}
    return {"from_name": attribute.name, "to_name": "image", "type": "choices", "value": value, **score}


def read_label_studio(path: Path) -> Iterator[Answer]:
    """Yields the answers in a JSON export (its format "JSON"); skipped and cancelled annotations are none.

    Raises:
        ConfigError: the file is something else.
    """
    try:
        tasks = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: expected Label Studio's JSON export, found no JSON in UTF-8") from error
    if not isinstance(tasks, list):
        raise ConfigError(f"{path}: expected a list of tasks; export the project in the format JSON")
    for number, task in enumerate(tasks, 1):
        where = f"{path}: task {number}"
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict) or "annotations" not in task:
            raise ConfigError(f"{where}: expected data and annotations; export the project in the format JSON")
        image = task["data"].get("image_id", task["data"].get("image"))
        if not isinstance(image, str):
            raise ConfigError(f"{where}: data has neither image_id nor image")
        for annotation in task["annotations"]:
            if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
                raise ConfigError(f"{where}: an annotation without a list `result`")
            if not annotation.get("was_cancelled"):
                yield from _read_annotation(annotation, image, where)


def _read_annotation(annotation: dict[str, Any], image: str, where: str) -> Iterator[Answer]:
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    time_s = _read_time(annotation.get("updated_at") or annotation.get("created_at"), where)
    for result in annotation["result"]:
        if not isinstance(result, dict) or result.get("type") != "choices":
            continue  # a comment, a box: not one of our questions
        choices = result["value"].get("choices") if isinstance(result.get("value"), dict) else None
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], str):
            raise ConfigError(f"{where}: {result.get('from_name')!r}: expected one choice, found {choices!r}")
        yield Answer(
            image=image,
            attribute=str(result.get("from_name")),
            text=choices[0],
            reviewer=None if who is None else str(who),
            time_s=time_s,
        )


def _read_time(text: Any, where: str) -> float | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: expected a time such as 2026-01-31T12:00:00Z, found {text!r}") from error
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
