"""The commands of `faceattr`, by name: a command's packages are imported when it is called.

A command is a frozen dataclass whose fields are its flags and whose call does the work and returns the exit code. A job
that needs a cluster is a config, whose fields are its flags, and a function that takes it; `ray job submit` gets the
same job as a script of pipelines/ or tune/.
"""

import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        words: the words after `faceattr`.
        target: the class whose fields are its flags, as `module:name`.
        help: one line.
        job: the function of a job, as `module:name`; None if calling an instance of the class does the work.
        presets: the folder of its presets, as `module:name`.
        resumes: whether the same command goes on where a stopped one was, without being a job.
    """

    words: tuple[str, ...]
    target: str
    help: str
    job: str | None = None
    presets: str | None = None
    resumes: bool = False

    def resolve(self) -> type:
        """Imports the class."""
        found: type = pkgutil.resolve_name(self.target)
        return found

    def resolve_job(self) -> Callable[[Any], int] | None:
        """Imports the function of a job; None if it is none."""
        found: Callable[[Any], int] | None = None if self.job is None else pkgutil.resolve_name(self.job)
        return found

    def resolve_presets(self) -> Path | None:
        """Imports the folder of its presets; None if it has none."""
        found: Path | None = None if self.presets is None else pkgutil.resolve_name(self.presets)
        return found


COMMANDS: tuple[Command, ...] = (
    Command(
        ("label",),
        "faceattr.config:LabelConfig",
        "Labels images with a visual question answering model.",
        job="faceattr.jobs.steps.label:label_images",
    ),
    Command(
        ("pack",),
        "faceattr.config:PackConfig",
        "Joins labels and images into training shards.",
        job="faceattr.jobs.steps.pack:pack_images",
    ),
    Command(
        ("train",),
        "faceattr.config.train:TrainConfig",
        "Trains one model for all attributes.",
        job="faceattr.jobs.steps.train:run_training",
        presets="faceattr.training.presets:PRESETS_FOLDER",
    ),
    Command(
        ("search",),
        "faceattr.config.search:SearchConfig",
        "Searches for training settings.",
        job="faceattr.jobs.steps.search:search_settings",
    ),
    Command(
        ("evaluate",),
        "faceattr.config:EvalConfig",
        "Evaluates a trained model; fits thresholds and calibration.",
        job="faceattr.jobs.steps.evaluate:evaluate_model",
    ),
    Command(
        ("predict", "bucket"),
        "faceattr.config:PredictConfig",
        "Predicts the attributes of any number of images, on Ray.",
        job="faceattr.jobs.steps.predict:predict_images",
    ),
    Command(
        ("predict",),
        "faceattr.commands.predict:Predict",
        "Predicts the attributes of a picture or of a folder of pictures, in this process.",
    ),
    Command(
        ("serve",),
        "faceattr.jobs.steps.serve:Serve",
        "Answers images that are sent by HTTP with a trained model's predictions.",
    ),
    Command(
        ("export", "model"),
        "faceattr.commands.export_model:ExportModel",
        "Writes a trained model as ONNX.",
    ),
    Command(
        ("export", "labels"),
        "faceattr.commands.export_labels:ExportLabels",
        "Writes a published label run as CSV, JSON or data set, or for Label Studio, CVAT or FiftyOne.",
    ),
    Command(
        ("push", "model"),
        "faceattr.commands.push.model:PushModel",
        "Uploads a trained model to the Hugging Face hub, private by default.",
    ),
    Command(
        ("push", "labels"),
        "faceattr.commands.push.labels:PushLabels",
        "Uploads a published label run to the Hugging Face hub, private by default.",
    ),
    Command(
        ("import", "judgements"),
        "faceattr.commands.import_judgements:ImportJudgements",
        "Reads people's answers from Label Studio, CVAT or FiftyOne.",
    ),
    Command(
        ("combine",),
        "faceattr.commands.combine:Combine",
        "Combines label runs over the same images into one.",
    ),
    Command(
        ("delete-rows",),
        "faceattr.commands.erasure.delete_rows:DeleteRows",
        "Deletes images from a run for good: a version without them, and no older file.",
        resumes=True,
    ),
    Command(
        ("lineage",),
        "faceattr.commands.erasure.lineage:Lineage",
        "Lists what was made from a run or a model, and what a deletion reaches.",
    ),
    Command(
        ("diff",),
        "faceattr.commands.diff:Diff",
        "Says in which rows, images and labels two label runs differ.",
    ),
    Command(
        ("audit", "review"),
        "faceattr.commands.audit.review:AuditReview",
        "Opens a page on which people judge an audit's images.",
    ),
    Command(
        ("audit", "export"),
        "faceattr.commands.audit.export:AuditExport",
        "Writes an audit's sample for Label Studio, CVAT or FiftyOne.",
    ),
    Command(
        ("audit", "sample"),
        "faceattr.commands.audit.sample:AuditSample",
        "Draws the images of which people judge the labels.",
    ),
    Command(
        ("audit", "apply"),
        "faceattr.commands.audit.apply:AuditApply",
        "Estimates how right labels are from judgements, and chooses thresholds.",
    ),
    Command(
        ("audit", "issues"),
        "faceattr.commands.audit.issues:AuditIssues",
        "Ranks the labels of a packed run by how probably they are wrong.",
    ),
    Command(
        ("doctor",),
        "faceattr.jobs.steps.doctor:Doctor",
        "Checks this machine, the cluster and the stores, and says what to do.",
    ),
    Command(
        ("models",), "faceattr.commands.models:Models", "Prints the models that can label, and which are cached here."
    ),
    Command(
        ("demo",),
        "faceattr.commands.demo:Demo",
        "Runs the whole chain on drawn faces, offline.",
        resumes=True,
    ),
    Command(
        ("completion",),
        "faceattr.commands.completion:Completion",
        "Prints a script that lets a shell complete commands, flags and their values.",
    ),
    Command(("status",), "faceattr.commands.status:Status", "Prints the state of a run folder, without a cluster."),
    Command(
        ("plan",), "faceattr.commands.plan:PlanLabels", "Calculates time, machines, requests and cost of a label run."
    ),
)


def find_command(arguments: Sequence[str]) -> Command | None:
    """Returns the command that the first words name, the longest name first, or None."""
    for command in sorted(COMMANDS, key=lambda each: -len(each.words)):
        if tuple(arguments[: len(command.words)]) == command.words:
            return command
    return None
