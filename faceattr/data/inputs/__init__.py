"""Input of runs over images: folders, manifests, and columns of Parquet files."""
