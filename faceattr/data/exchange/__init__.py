"""Exchange with labelling tools: Label Studio, CVAT and FiftyOne. Files out, files back in; no tool is imported."""
