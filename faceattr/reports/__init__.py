"""Reports that people read about a run: pages, plots, tables, model cards."""
