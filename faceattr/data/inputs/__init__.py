"""What a run over images reads: folders, manifests, and columns of Parquet files."""
