"""The labelling tools by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from faceattr.data.exchange.cvat import read_cvat, write_cvat
from faceattr.data.exchange.fiftyone import read_fiftyone, write_fiftyone
from faceattr.data.exchange.label_studio import read_label_studio, write_label_studio
from faceattr.data.exchange.tasks import AnswerReader, ExchangeFormat, TaskWriter


@dataclass(frozen=True, kw_only=True)
class Tool:
    """How files of a tool are written and read.

    Attributes:
        write: writes tasks.
        read: reads answers.
        usual_name: name of the file or folder that is written by default.
    """

    write: TaskWriter
    read: AnswerReader
    usual_name: str


TOOLS: Mapping[ExchangeFormat, Tool] = {
    "label-studio": Tool(write=write_label_studio, read=read_label_studio, usual_name="tasks.json"),
    "cvat": Tool(write=write_cvat, read=read_cvat, usual_name="annotations.xml"),
    "fiftyone": Tool(write=write_fiftyone, read=read_fiftyone, usual_name="fiftyone"),
}
