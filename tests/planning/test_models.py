"""The table of models: its figures against the counters, its copy in the documents, and the command that prints it."""

from pathlib import Path

import pytest

from faceattr.cli import main as faceattr
from faceattr.commands.models import describe_models
from faceattr.planning.models import MODEL_COLUMNS, load_models, model_rows
from faceattr.vqa.blip.flops import count_image, count_question
from faceattr.vqa.blip.network.architecture import read_sizes
from faceattr.vqa.contrastive.flops import count_contrastive_image
from faceattr.vqa.contrastive.sizes import read_vision_sizes
from faceattr.vqa.decoder.flops import count_decoder_image, count_decoder_question
from faceattr.vqa.decoder.sizes import read_decoder_sizes
from faceattr.vqa.engines import ENGINES
from tests.published_sizes import CONTRASTIVE, DECODERS


def test_every_family_has_its_example_in_the_table():
    models = load_models()
    for family, engine in ENGINES.items():
        assert models[engine.example].family == family
    assert {each.family for each in models.values()} == set(ENGINES)


def test_the_work_is_what_the_counters_say():
    models = load_models()
    for name, config in CONTRASTIVE.items():
        sizes = read_vision_sizes({"model_type": models[name].family, **config}, Path("config.json"))
        assert models[name].gflop_image == pytest.approx(count_contrastive_image(sizes), rel=2e-3), name
        assert (models[name].gflop_question, models[name].size_px) == (0, sizes.image_px), name
    blip = models["Salesforce/blip-vqa-base"]
    sizes = read_sizes({}, Path("config.json"))
    assert blip.gflop_image == pytest.approx(count_image(sizes), rel=5e-3)
    assert blip.gflop_question == pytest.approx(count_question(sizes), rel=2e-2)
    for name, config in DECODERS.items():
        each = models[name]
        sizes = read_decoder_sizes({"model_type": each.family, **config}, Path("config.json"))
        assert each.gflop_image == pytest.approx(count_decoder_image(sizes, each.size_px), rel=2e-3), name
        assert each.gflop_question == pytest.approx(count_decoder_question(sizes, each.size_px), rel=1e-2), name
    assert set(models) == {"Salesforce/blip-vqa-base", *CONTRASTIVE, *DECODERS}


def test_what_is_measured_or_known_has_a_source():
    for name, each in load_models().items():
        assert (each.images_per_s is None) == (each.measured is None), name
        assert (each.faces is None) == (each.faces_source is None), name


def test_the_document_shows_the_table():
    text = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
    found = text.split("models.yaml has them -->\n\n")[1].split("\n\n<!-- end -->")[0]
    head = ["| " + " | ".join(MODEL_COLUMNS) + " |", "| " + " | ".join("---" for _ in MODEL_COLUMNS) + " |"]
    rows = ["| " + " | ".join((f"`{name}`", *rest)) + " |" for name, *rest in model_rows(load_models())]
    assert found.splitlines() == head + rows


def test_the_command_says_what_is_in_the_cache():
    text = describe_models({"openai/clip-vit-base-patch32": 610_000_000, "someone/other": 1})
    assert "openai/clip-vit-base-patch32  (0.61 GB in the cache)\n  licence            MIT\n" in text
    assert "Salesforce/blip-vqa-base  (not in the cache)" in text
    assert "  on faces           nothing known" in text
    assert text.endswith("also in the cache, not in the table: someone/other")
    shown = describe_models({"openai/clip-vit-base-patch32": 610_000_000}, cached_only=True)
    assert shown.startswith("openai/clip-vit-base-patch32")
    assert "blip" not in shown
    assert describe_models({}, cached_only=True).startswith("none of the models")


def test_the_commands_take_the_table(capsys):
    assert faceattr(["models"]) == 0
    assert capsys.readouterr().out.count("(") >= len(load_models())
    plan = ["plan", "--images", "1_000_000", "--gpu", "h200"]
    assert faceattr([*plan, "--model", "google/siglip2-base-patch16-224"]) == 0
    shown = capsys.readouterr().out
    assert "this model was never measured on an h200" in shown
    # 35.4 GFLOP at 0.3 of 989 TFLOP/s are 0.119 ms, and 0.295 ms of the actor.
    assert "2,414 images/s each" in shown
    assert faceattr([*plan, "--model", "someone/other"]) == 2
    assert "--model: expected one of Salesforce/blip-vqa-base, " in capsys.readouterr().err
