"""Settings to begin with, one YAML file a replaced system; `pipelines/README.md` maps their options."""

from pathlib import Path

PRESETS_FOLDER = Path(__file__).parent
