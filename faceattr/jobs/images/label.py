"""The label run: images in a store -> BLIP VQA actors -> a published table of labels."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa

from faceattr.attributes import AttributeSet
from faceattr.config import LabelConfig
from faceattr.data.model_folders import absolute_name
from faceattr.data.runs.run_attributes import read_decisions
from faceattr.data.runs.version import Manifest, RunVersion
from faceattr.data.stores.open import open_output
from faceattr.errors import ConfigError
from faceattr.jobs.cluster.recipe import ActorRecipe
from faceattr.jobs.cluster.session import ActorLayout
from faceattr.jobs.images.actors.label_actor import VqaActor
from faceattr.jobs.images.decode import Resizer
from faceattr.jobs.images.run import ImageJob, check_output, publish, summarise_run
from faceattr.reports.pages import report_key
from faceattr.vqa.checkpoints import TINY_MODEL, CheckpointFacts
from faceattr.vqa.engines import Engine, check_options, find_engine, inspect_checkpoint
from faceattr.vqa.question_files import load_question_set
from faceattr.vqa.questions import QuestionSet

# Increased by hand when a change of the code can change a score or a label.
SCORING_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class LabelJob(ImageJob):
    """A checked label command; see `ImageJob`.

    Attributes:
        questions: the questions that are asked.
        checkpoint: facts about the model, including the hash of its weights.
    """

    kind = "label"
    config: LabelConfig
    questions: QuestionSet
    checkpoint: CheckpointFacts

    @property
    def engine(self) -> Engine:
        """The engine of this model family."""
        return find_engine(self.checkpoint.model_type)

    @property
    def packages(self) -> tuple[str, ...]:
        """See `ImageJob`."""
        return self.engine.packages

    @property
    def attributes(self) -> AttributeSet:
        """See `ImageJob`."""
        return self.questions.attributes

    @property
    def resizer(self) -> Resizer:
        """See `ImageJob`."""
        return Resizer(self.engine.resize, self.checkpoint.resizing, size_px=self.checkpoint.size_px)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything that determines the rows of the run."""
        return {
            **self.input_fingerprint,
            "weights": self.checkpoint.weights_id,
            "engine": self.config.engine,
            "question_start": self.config.question_start,
            "questions": self.questions.to_json(),
            "size_px": self.checkpoint.size_px,
            "scoring_version": SCORING_VERSION,
            **_image_settings(self.checkpoint),
            # Left out of runs that do not choose, as of those that could not.
            **({} if self.config.precision == "auto" else {"precision": self.config.precision}),
        }

    @property
    def task(self) -> str:
        """See `ImageJob`."""
        what = "prompts" if self.questions.by_prompts else "questions"
        gflop = self.gflop_image
        work = f", {gflop:,.1f} GFLOP an image" if gflop else ""  # not counted for every family
        names = ", ".join(self.attributes.names)
        return f"{self._num_wordings} {what} for {names}; {self.checkpoint.model_type}{work}"

    @property
    def gflop_image(self) -> float:
        """See `ImageJob`."""
        return self.checkpoint.gflop_image + self._num_wordings * self.checkpoint.gflop_question

    @property
    def _num_wordings(self) -> int:
        return sum(len(self.questions.wordings(asked)) for asked in self.questions.asked)

    def actor(self, actors: ActorLayout, schema: pa.Schema) -> tuple[type, dict[str, Any]]:
        """See `ImageJob`."""
        recipe = scorer_recipe(self, actors)
        return VqaActor, {"build_scorer": recipe, "questions": self.questions, "schema": schema}

    @property
    def redraws_report(self) -> bool:
        """See `ImageJob`."""
        return self.config.thumbnails

    @property
    def notes(self) -> dict[str, Any]:
        """Further information for readers of the run."""
        notes: dict[str, Any] = {"model": self.config.model, "revision": self.checkpoint.revision}
        sensitive = self.questions.sensitive_questions()
        if sensitive:
            notes["sensitive"] = {"questions": list(sensitive), "reason": self.config.allow_sensitive}
        return notes


def _image_settings(checkpoint: CheckpointFacts) -> dict[str, Any]:
    """Returns how images are resized, if it takes more to say than the side, which the fingerprint has in any case."""
    return {} if checkpoint.resizing == checkpoint.size_px else {"resizing": asdict(checkpoint.resizing)}


def prepare_label_job(config: LabelConfig) -> LabelJob:
    """Checks a command as far as possible without a cluster and without reading an image.

    Raises:
        ConfigError, ModelError: the command cannot run as given.
        StorageError: the output store cannot be accessed.
    """
    questions = replace(load_question_set(config.attributes), weighs_agreement=config.agreement)
    sensitive = questions.sensitive_questions()
    if sensitive and config.allow_sensitive is None:
        raise ConfigError(
            f"--attributes {config.attributes} asks about race, religion, orientation, health or politics: "
            f"{', '.join(map(repr, sensitive[:3]))}. Inferring these from faces is restricted or forbidden in many "
            "places (EU AI Act Art. 5(1)(g)). If you may do it, give the reason, which is recorded in the run: "
            '--allow-sensitive "..."'
        )
    storage = config.storage
    output = open_output(config.output, storage)
    checkpoint = inspect_checkpoint(
        config.model,
        revision=config.revision,
        storage=storage,
        questions=questions,
        question_start=config.question_start,
    )
    check_options(config, checkpoint.model_type)
    engine = find_engine(checkpoint.model_type)
    questions = replace(questions, has_mass=engine.has_mass, by_prompts=engine.reads_prompts)
    if not engine.computes_here and config.workers.gpus_per_actor is None:
        config = replace(config, workers=replace(config.workers, gpus_per_actor=0.0))
    job = LabelJob(config=config, questions=questions, checkpoint=checkpoint, storage=storage, output=output)
    check_output(job)
    return job


def scorer_recipe(job: LabelJob, actors: ActorLayout) -> ActorRecipe:
    """Returns the recipe by which each actor builds its scorer."""
    config = job.config
    return ActorRecipe(
        job.engine.build,
        {
            "model": config.model if config.model == TINY_MODEL else absolute_name(config.model),
            "revision": job.checkpoint.revision,
            "weights_id": job.checkpoint.weights_id,
            "questions": job.questions,
            "engine": config.engine,
            "question_start": config.question_start,
            "batch_size": actors.batch_size,
            "threads": actors.threads,
            "on_gpu": actors.gpus > 0,
            "precision": config.precision,
            "compile_mode": config.compile,
            "num_images": actors.num_images // actors.max_actors,
            "storage": job.storage,
        },
    )


def publish_labels(job: LabelJob, version: RunVersion) -> Manifest:
    """Proves that every row exists exactly once, judges the rejects, publishes, and writes the report.

    Raises:
        RunError: rows are missing, or too many images are bad; nothing is published then.
    """
    from faceattr.reports.label import LabelStatistics, write_label_report  # noqa: PLC0415 - late: it draws
    from faceattr.reports.strips.label import LabelStrips  # noqa: PLC0415

    statistics = LabelStatistics(job.questions)
    if not job.config.thumbnails:
        manifest = publish(job, version, [statistics.observe])
        write_label_report(job.output, version.record, manifest, statistics)
        return manifest
    strips = LabelStrips(version.record, read_decisions(version.record, version.published or version))
    manifest = publish(job, version, [statistics.observe, strips.observe])
    drawn = strips.draw(job.output, job.storage, job.config.decode)
    write_label_report(job.output, version.record, manifest, statistics, drawn)
    return manifest


def summarise_labels(job: LabelJob, manifest: Manifest) -> str:
    """Returns the text that the user reads at the end."""
    return summarise_run(job, manifest, "labelled", report_key(manifest.version))
