"""Flags and YAML to a config, and errors to exit codes."""

import importlib.metadata
import logging
import os
import re
import subprocess
import sys

import pytest

from faceattr.cli import main, parse_config, run_job
from faceattr.config import LabelConfig, StorageConfig
from faceattr.config.train import TrainConfig
from faceattr.data.stores.open import open_store
from faceattr.errors import ConfigError, ModelError, RunError, StorageError


@pytest.fixture(autouse=True)
def _logging_as_before():
    """Entry points configure logging for the process; other tests want it as it was."""
    logger = logging.getLogger("faceattr")
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    yield
    logger.handlers, logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture
def parse(tmp_path):
    """(YAML text or None, flags...) -> LabelConfig; images and output are given unless the YAML does."""

    def parse(text, *flags):
        given = [] if text and "images:" in text else ["--images=in", "--output=out"]
        if text is None:
            return parse_config(LabelConfig, [*given, *flags])
        path = tmp_path / "run.yaml"
        path.write_bytes(text.encode(errors="surrogateescape"))
        return parse_config(LabelConfig, [*given, "--config", str(path), *flags])

    return parse


def test_flags_alone(parse):
    config = parse(None, "--storage.deadline-s", "5", "--ray.no-dashboard", "--dry-run", "--limit", "7")
    assert (config.images, config.output, config.limit) == ("in", "out", 7)
    assert config.storage.deadline_s == 5.0
    assert config.ray.dashboard is False
    assert config.dry_run is True


def test_a_file_alone(parse):
    text = """
        images: s3://bucket/faces
        output: runs/1
        engine: hf
        max_error_share: 1e-4
        limit: 3
        dry-run: true
        root: null
        revision:
        bytes_column: ~
        allow_sensitive: "yes: an audit = a reason"
        storage: {deadline_s: 1e2, endpoint-url: "http://127.0.0.1:9000"}
        ray:
          dashboard: False
          num_cpus: 2
    """
    config = parse(text)
    assert (config.images, config.output, config.engine, config.limit) == ("s3://bucket/faces", "runs/1", "hf", 3)
    assert config.max_error_share == 0.0001
    assert config.dry_run is True
    assert (config.root, config.revision, config.bytes_column) == (None, None, None)
    assert config.allow_sensitive == "yes: an audit = a reason"
    assert config.storage == StorageConfig(endpoint_url="http://127.0.0.1:9000", deadline_s=100.0)
    assert (config.ray.dashboard, config.ray.num_cpus) == (False, 2)
    assert config.decode == LabelConfig(images="x", output="y").decode


@pytest.mark.parametrize(
    ("text", "flag", "read", "expected"),
    [
        ("limit: 3", ["--limit", "9"], lambda config: config.limit, 9),
        ("limit: 3", ["--limit=9"], lambda config: config.limit, 9),
        ("limit: 3", ["--limit", "None"], lambda config: config.limit, None),
        ("dry_run: true", ["--no-dry-run"], lambda config: config.dry_run, False),
        ("dry_run: false", ["--dry-run"], lambda config: config.dry_run, True),
        ("ray: {dashboard: false}", ["--ray.dashboard"], lambda config: config.ray.dashboard, True),
        ("ray: {dashboard: true}", ["--ray.no-dashboard"], lambda config: config.ray.dashboard, False),
        ("storage: {deadline_s: 9}", ["--storage.deadline_s", "2"], lambda config: config.storage.deadline_s, 2.0),
        ("storage: {deadline-s: 9}", ["--storage.deadline-s=2"], lambda config: config.storage.deadline_s, 2.0),
        ("limit: -1", ["--limit", "4"], lambda config: config.limit, 4),
    ],
)
def test_a_flag_wins_over_the_file(parse, text, flag, read, expected):
    assert read(parse(text, *flag)) == expected


def test_the_files_name_may_stand_behind_an_equals_sign(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("images: a\noutput: b\nlimit: 3\n")
    config = parse_config(LabelConfig, [f"--config={path}", "--output", "c"])
    assert (config.images, config.output, config.limit) == ("a", "c", 3)


def test_a_file_in_object_storage(s3_uri):
    store = open_store(s3_uri)
    store.put("search/best.yaml", b"images: in\noutput: out\nlimit: 3\n")
    assert parse_config(LabelConfig, ["--config", f"{s3_uri}/search/best.yaml"]).limit == 3
    with pytest.raises(ConfigError, match=r"search/worst\.yaml: no such object"):
        parse_config(LabelConfig, ["--config", f"{s3_uri}/search/worst.yaml"])


@pytest.mark.parametrize("value", ["-x", "--dashes", "None", "1e-4", "no", "a b=c", "'#5'", "日本"])
def test_texts_of_a_file_stay_texts(parse, value):
    assert parse(f"images: {value}\noutput: out").images == value.strip("'")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("imagess: a", "unknown key 'imagess'; did you mean 'images'"),
        ("max_eror_share: 0.1", "unknown key 'max_eror_share'; did you mean 'max_error_share'"),
        ("storage: {deadline: 5}", "unknown key 'storage.deadline'; did you mean 'deadline_s'"),
        ("ray: {zzz: 5}", "unknown key 'ray.zzz'; known are dashboard, object_store_mb, num_cpus"),
        ("storage: 5", "'storage' is a group; expected keys below it"),
        ("storage:", "'storage' is a group; expected keys below it"),
        ("limit: {a: 1}", "'limit' takes one value, found keys below it"),
        ("dry_run: yes", "'dry-run': expected true or false, found 'yes'"),
        ("dry_run:", "'dry-run': expected true or false, found ''"),
        ("just words", "expected 'key: value' lines"),
        ("", "expected 'key: value' lines"),
        ("a: [1", "not valid YAML"),
        ("images: \udcff", "not valid YAML"),
        ("limit: 3\nlimit: 4", "line 2: the key 'limit' stands twice, first in line 1"),
        ("storage: {deadline_s: 1, deadline-s: 2}", "'storage.deadline_s' and 'storage.deadline-s' are one key"),
        ("limit: [3]", "'limit' takes one value, found a list of 1"),
        ("images: [a, b]", "'images' takes one value, found a list of 2"),
        ("dry_run: [true]", "'dry_run' takes one value, found a list of 1"),
        ("storage: [1]", "'storage' is a group; expected keys below it"),
        ("images: " + "[" * 5_000, "nested more than 32 deep"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_key(parse, text, problem):
    with pytest.raises(ConfigError, match=r"^--config .*run\.yaml: ") as error:
        parse(text)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("text", "flag"),
    [
        ("limit: 0", "--limit"),
        ("storage: {deadline_s: -1}", "--storage.deadline-s"),
        ("images:\noutput: out", "--images"),
        ("images: ''\noutput: out", "--images"),
        ("storage: {endpoint_url: 'http://a:b@c'}", "--storage.endpoint-url"),
    ],
)
def test_a_value_out_of_range_names_the_dotted_key(parse, text, flag):
    with pytest.raises(ConfigError, match=rf"^{flag}: expected"):
        parse(text)


@pytest.mark.parametrize("argv", [["--config"], ["--config", "/no/such/file.yaml"]])
def test_a_missing_file(argv):
    with pytest.raises(ConfigError, match=r"^--config"):
        parse_config(LabelConfig, argv)


@pytest.mark.parametrize(
    ("text", "flags", "shown"),
    [
        (None, ["--limit", "many"], "--limit"),
        ("limit: many", [], "--limit"),
        ("storage: {deadline_s: null}", [], "--storage.deadline-s"),
        ("engine: magic", [], "--engine"),
    ],
)
def test_a_value_of_a_wrong_kind_ends_with_code_2_and_names_the_flag(parse, capsys, text, flags, shown):
    with pytest.raises(SystemExit) as end:
        parse(text, *flags)
    assert end.value.code == 2
    assert shown in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("--nonsense", "no such flag: --nonsense; --help lists all"),
        ("--imags=x", "no such flag: --imags; did you mean --images?"),
        ("--storage.deadlines", "no such flag: --storage.deadlines; did you mean --storage.deadline-s?"),
        ("--deadline-s", "no such flag: --deadline-s; did you mean --storage.deadline-s?"),
        ("--no-images", "no such flag: --no-images; did you mean --images?"),
    ],
)
def test_an_unknown_flag_is_one_line_with_the_flag_that_was_meant(parse, flag, expected):
    with pytest.raises(ConfigError, match=re.escape(expected) + "$"):
        parse(None, flag, "1")


def test_a_value_of_a_wrong_kind_in_a_file_is_one_line_with_file_and_key(parse, capsys):
    with pytest.raises(SystemExit) as end:
        parse("workers:\n  max_actors: a few")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --config ")
    assert (
        "run.yaml: 'workers.max_actors' (--workers.max-actors): expected a whole number or null, found 'a few'" in line
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("attributes: [hat, [beard]]", "'attributes': expected a list of single values"),
        ("loss: {weights: [1]}", "'loss.weights' takes one value, found a list"),
        ("loss: {weights: 1}", "'loss.weights': expected 'name: value' lines below it, found '1'"),
        ("preset: [a]", "'preset' takes one value, found a list of 1"),
    ],
)
def test_the_shape_of_lists_and_pairs_in_a_file_is_checked(tmp_path, text, problem):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"^--config .*train\.yaml: ") as error:
        parse_config(TrainConfig, ["--data=a", "--output=b", "--config", str(path)], presets=tmp_path)
    assert problem in str(error.value)


def run_plan(*, unbuffered=False, **streams):
    """`faceattr plan`, in a process of its own."""
    code = "import sys; from faceattr.cli import main; sys.exit(main(['plan', '--images', '1000']))"
    command = [sys.executable, *(["-u"] if unbuffered else []), "-c", code]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False, env=env, **streams)


def test_a_reader_that_stops_reading_ends_a_command_without_a_word():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        ended = run_plan(stdout=closed)
    assert (ended.stderr, ended.returncode) == ("", 0)


@pytest.mark.parametrize("unbuffered", [False, True])
def test_a_full_disk_behind_standard_output_is_one_line(unbuffered):
    with open("/dev/full", "w") as full:
        ended = run_plan(stdout=full, unbuffered=unbuffered)
    assert re.fullmatch("error: cannot write to standard output.*: No space left on device\n", ended.stderr)
    assert ended.returncode == 1


def test_a_pipe_that_breaks_in_the_middle_of_a_command_ends_it_without_a_word():
    code = """
import os, sys
from faceattr.cli import run_job
from faceattr.config import LabelConfig
def job(config):
    for _ in range(1000):
        print("x" * 1000, flush=True)
    return 0
sys.exit(run_job(LabelConfig, job, ["--images", "a", "--output", "b"], None))
"""
    ended = subprocess.run(
        f"set -o pipefail; {sys.executable} -c '{code}' | head -n 1 > {os.devnull}",
        shell=True, executable="/bin/bash", stderr=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    assert (ended.stderr, ended.returncode) == ("", 141)


def test_our_line_is_the_last_although_a_generator_of_the_failed_job_ends_noisily():
    code = """
import sys
from faceattr.cli import run_job
from faceattr.config import LabelConfig
from faceattr.errors import RunError
def noisy():
    try:
        yield 1
    finally:
        print("noise of a generator", file=sys.stderr)
        raise ValueError("Ray is gone")
def job(config):
    rows = noisy()
    next(rows)
    cycle = [rows]
    cycle.append(cycle)
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise RunError("too many images are bad") from error
sys.exit(run_job(LabelConfig, job, ["--images", "a", "--output", "b"], None))
"""
    ended = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, check=False)
    assert ended.stderr.splitlines() == ["noise of a generator", "error: too many images are bad"]
    assert ended.returncode == 1


def raising(error):
    def job(config):
        raise error

    return job


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (lambda config: 0, 0),
        (lambda config: 1, 1),
        (raising(RunError("rows are missing")), 1),
        (raising(StorageError("no answer")), 1),
        (raising(ConfigError("wrong flag")), 2),
        (raising(ModelError("no such model")), 2),
        (raising(KeyboardInterrupt()), 130),
    ],
)
def test_exit_codes_of_a_job(capsys, job, code):
    assert run_job(LabelConfig, job, ["--images", "a", "--output", "b"], None) == code
    assert "Traceback" not in capsys.readouterr().err


def test_an_error_is_shown_as_one_line(capsys):
    run_job(LabelConfig, raising(RunError("rows are missing")), ["--images", "a", "--output", "b"], None)
    assert capsys.readouterr().err == "error: rows are missing\n"


def test_a_bad_config_never_reaches_the_job():
    reached = []
    assert run_job(LabelConfig, reached.append, ["--images", "a", "--output", "b", "--limit", "0"], None) == 2
    assert not reached


def test_an_error_that_is_no_users_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_job(LabelConfig, raising(ZeroDivisionError()), ["--images", "a", "--output", "b"], None)


@pytest.mark.parametrize(("argv", "code"), [(["--help"], 0), (["-h"], 0), ([], 2), (["export"], 2), (["bogus"], 2)])
def test_the_command_shows_what_it_can_do(capsys, argv, code):
    assert main(argv) == code
    shown = capsys.readouterr()
    assert "faceattr export labels" in (shown.out if code == 0 else shown.err)


def test_a_group_of_commands_lists_them(capsys):
    assert main(["export", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "faceattr export model " in shown
    assert "faceattr export labels " in shown
    assert "faceattr label " not in shown
    assert main(["export"]) == 2
    assert "error: faceattr export: a further word is missing" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"faceattr {importlib.metadata.version('faceattr')}\n"


@pytest.mark.parametrize("words", [["label"], ["predict", "bucket"], ["train", "--preset", "demo"]])
def test_a_job_is_a_command_with_the_text_of_its_steps(capsys, words):
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    name = " ".join(word for word in words if not word.startswith("--") and word != "demo")
    assert shown.startswith(f"usage: faceattr {name} ")
    assert "ray job submit --working-dir" in shown
    assert "--config FILE" in shown


def test_a_job_refuses_a_wrong_config_with_exit_code_2(capsys):
    assert main(["label", "--images", "a", "--output", "b", "--limit", "0"]) == 2
    assert "limit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["prdict", "--model", "x"], "'prdict'; did you mean 'predict'?"),
        (["export", "lables", "run"], "'export lables'; did you mean 'export labels'?"),
        (["bogus"], "'bogus'\n"),
    ],
)
def test_an_unknown_command_is_named(capsys, argv, shown):
    assert main(argv) == 2
    assert f"error: no such command: {shown}" in capsys.readouterr().err


def test_an_export_of_an_empty_folder_is_a_bad_configuration(tmp_path, capsys):
    assert main(["export", "labels", str(tmp_path), "--output", str(tmp_path / "labels.csv")]) == 2
    assert "holds no label run" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
