"""Exports a model as ONNX: one file with weights, calibration, thresholds and rules, and a JSON file next to it that
describes its inputs and outputs. The file is run by onnxruntime and compared with PyTorch before it is renamed to its
final name.

    input    images          uint8 [n, S, S, 3], RGB, resized and cropped as `preprocessing` in the JSON specifies; or,
                             for input type float32, float32 [n, 3, S, S], normalised as well
    output   <name>_score    float32, calibrated: binary [n] P(yes); several classes [n, C]
             <name>          int64 [n]: 1 if the score is at least the threshold, or the index of the top class; for an
                             age float32 [n] years, without a score
"""

import contextlib
import importlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from faceattr.attributes import DEFAULT_THRESHOLD
from faceattr.data.formats.json_text import encode_json
from faceattr.data.images.face_view import describe_faces
from faceattr.errors import ConfigError, ModelError
from faceattr.evaluation.decisions import decide_labels, truth_table
from faceattr.evaluation.scores import Scores
from faceattr.models.multitask import MultiAttributeModel
from faceattr.models.transforms import Normalise
from faceattr.version import __version__

InputType = Literal["uint8", "float"]
DEFAULT_OPSET = 18
_SCHEMA_VERSION = 1
ONNX_INSTALL = "pip install 'faceattr[onnx]'"
# Largest allowed difference of a score (of an age in years) between PyTorch and onnxruntime, both in float32.
TOLERANCE = 1e-4
YEARS_TOLERANCE = 1e-2
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_PARITY_BATCHES = (1, 3)


class _Exported(nn.Module):
    """Maps images to scores and labels in one graph."""

    def __init__(self, model: MultiAttributeModel, input_type: InputType) -> None:
        super().__init__()
        self.model = model
        self.scores = Scores(model.attributes, model.calibration)
        self.normalise = Normalise(model.backbone.preprocessing)
        self._takes_uint8 = input_type == "uint8"
        self._tables = {rule.name: torch.from_numpy(truth_table(rule)) for rule in model.attributes.derived}

    @property
    def output_names(self) -> list[str]:
        names = []
        for each in self.model.attributes.attributes:
            names += [f"{each.name}_score", each.name] if each.has_score else [each.name]
        return [*names, *self._tables]

    def random_images(self, num: int) -> Tensor:
        size = self.model.backbone.preprocessing.size_px
        generator = torch.Generator().manual_seed(num)
        pixels = torch.randint(0, 256, (num, size, size, 3), generator=generator, dtype=torch.uint8)
        return pixels if self._takes_uint8 else self.normalise(pixels.permute(0, 3, 1, 2)).contiguous()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self._takes_uint8:
            images = self.normalise(images.permute(0, 3, 1, 2))
        scores = self.scores(self.model(images))
        results: dict[str, Tensor] = {}
        for each in self.model.attributes.attributes:
            score = scores[each.name]
            if not each.has_score:
                results[each.name] = score
                continue
            results[f"{each.name}_score"] = score
            if each.has_threshold:
                cut = self.model.thresholds.get(each.name, DEFAULT_THRESHOLD)
                results[each.name] = (score.double() >= cut).long()
            else:
                results[each.name] = score.argmax(1)
        for rule in self.model.attributes.derived:
            place = sum((results[name] << index for index, name in enumerate(rule.inputs)), torch.tensor(0))
            results[rule.name] = self._tables[rule.name][place]
        return tuple(results[name] for name in self.output_names)


def export_onnx(
    model: MultiAttributeModel, path: Path, *, input_type: InputType = "uint8", opset: int = DEFAULT_OPSET
) -> dict[str, float]:
    """Writes `path` and its JSON file, and checks with onnxruntime that the file's outputs equal PyTorch's.

    Args:
        model: model on the CPU, in float32.
        path: path of the .onnx file; existing files are not overwritten.
        input_type: input of the graph; see the module docstring.
        opset: version of the ONNX operator set.

    Returns:
        Score or age -> largest difference found.

    Raises:
        ConfigError: packages are missing, a file exists already, or this opset does not support the model.
        ModelError: the outputs of onnxruntime differ; no file is left.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"--format onnx needs the packages {', '.join(missing)}; install them: {ONNX_INSTALL}")
    if path.suffix != ".onnx":
        raise ConfigError(f"--output {path}: expected a file that ends in .onnx")
    beside = path.with_suffix(".json")
    for each in (path, beside):
        if each.exists():
            raise ConfigError(f"--output {path}: {each} is there already, and nothing is overwritten; choose another")
    exported = _Exported(model.cpu().eval(), input_type).eval()
    description = describe_model(model, input_type=input_type, opset=opset)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{path.name}")
    try:
        _write_graph(exported, temporary, opset, description)
        differences = check_parity(exported, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    beside.write_text(encode_json(description, indent=2) + "\n", encoding="utf-8")
    return differences


def describe_model(model: MultiAttributeModel, *, input_type: InputType, opset: int) -> dict[str, Any]:
    """Returns what a program needs to know to use the file, as JSON values."""
    size = model.backbone.preprocessing.size_px
    shape = ["n", size, size, 3] if input_type == "uint8" else ["n", 3, size, size]
    steps = [
        "decode to RGB, apply the EXIF orientation",
        "resize with antialiasing, crop_mode `squash` both sides, else the shorter one, to "
        "floor(size_px / crop_fraction)",
        "crop the central square of size_px; for crop_mode `center_down` its corner is rounded down, else to even",
    ]
    if model.faces is not None:
        steps.insert(1, f"show {describe_faces(model.faces)}, as pipelines/pack.py --faces {model.faces.mode} does")
    if input_type == "float":
        steps.append("(x / 255 - mean) / std in float32, channels first")
    return {
        "schema_version": _SCHEMA_VERSION,
        "faceattr": __version__,
        "opset": opset,
        "input": {"name": "images", "type": "uint8" if input_type == "uint8" else "float32", "shape": shape},
        "steps": steps,
        "preprocessing": model.backbone.preprocessing.to_dict(),
        "attributes": [
            {
                "name": each.name,
                "kind": each.kind,
                "classes": list(each.classes),
                "threshold": model.thresholds.get(each.name, DEFAULT_THRESHOLD) if each.has_threshold else None,
                "calibration": model.calibration.get(each.name),
            }
            for each in model.attributes.attributes
        ],
        "derived": [{"name": rule.name, "rule": rule.rule} for rule in model.attributes.derived],
    }


def check_parity(exported: _Exported, path: Path) -> dict[str, float]:
    """Compares PyTorch and onnxruntime on random images, in batches of different sizes.

    Returns:
        Score or age -> largest difference found.

    Raises:
        ModelError: a score differs by more than rounding, or a label does not follow from its score.
    """
    onnxruntime = importlib.import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = exported.output_names
    attributes = exported.model.attributes
    largest: dict[str, float] = {}
    for batch in _PARITY_BATCHES:
        images = exported.random_images(batch)
        with torch.inference_mode():
            wanted = dict(zip(names, (each.numpy() for each in exported(images)), strict=True))
        found = dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))
        scores = {}
        for each in attributes.attributes:
            name, allowed = (f"{each.name}_score", TOLERANCE) if each.has_score else (each.name, YEARS_TOLERANCE)
            if not np.isfinite(wanted[name]).all():
                raise ModelError(
                    f"the model's {name} is not finite in float32: its weights or its calibration are broken; "
                    "no file was written"
                )
            scores[each.name] = found[name]
            difference = float(np.abs(found[name] - wanted[name]).max())
            largest[name] = max(largest.get(name, 0.0), difference)
            if found[name].shape != wanted[name].shape or not difference <= allowed:
                raise ModelError(_describe_mismatch(name, f"off by {difference:.3g}, where {allowed:g} is rounding"))
        # Labels are checked against onnxruntime's own scores, so that a score near its threshold is no mismatch.
        for name, labels in decide_labels(attributes, scores, exported.model.thresholds).items():
            if not np.array_equal(found[name], labels):
                raise ModelError(_describe_mismatch(name, f"{found[name].tolist()}, expected {labels.tolist()}"))
    return largest


def _describe_mismatch(name: str, what: str) -> str:
    return (
        f"onnxruntime's {name} is not PyTorch's: {what}; the file was not written, try another --opset and report it "
        "with the model's config.json"
    )


def _write_graph(exported: _Exported, path: Path, opset: int, description: dict[str, Any]) -> None:
    onnx = importlib.import_module("onnx")
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= opset <= newest:
        raise ConfigError(f"--opset {opset}: expected a version from 1 to {newest}; {DEFAULT_OPSET} is usual")
    try:
        with _quiet():
            program = torch.onnx.export(
                exported,
                (exported.random_images(2),),
                dynamo=True,
                opset_version=opset,
                input_names=["images"],
                output_names=exported.output_names,
                dynamic_shapes={"images": {0: torch.export.Dim("n")}},
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--opset {opset}: the exporter cannot write this model: {_first_line(error)}; try --opset {DEFAULT_OPSET}"
        ) from error
    assert program is not None  # only without dynamo
    proto = program.model_proto
    given = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if given != opset:
        raise ConfigError(f"--opset {opset} cannot hold this model's operators; use --opset {given} or a later one")
    proto.metadata_props.append(onnx.StringStringEntryProto(key="faceattr", value=encode_json(description)))
    try:
        path.write_bytes(proto.SerializeToString())
    except ValueError as error:  # protobuf's limit
        raise ConfigError("an ONNX file can store at most 2 GB, and this model is larger") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the exporter's output; failures raise an exception or show in the result."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
