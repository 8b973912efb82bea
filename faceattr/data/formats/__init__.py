"""File formats: JSON, CSV and Parquet, read strictly and written whole."""
