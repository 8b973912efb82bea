"""Everything that people read of a run: pages, pictures, tables, model cards."""
