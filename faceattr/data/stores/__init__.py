"""Stores of whole objects: local folders, S3 and what pyarrow reads. `open.py` chooses one by its URI."""
