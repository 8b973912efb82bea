"""Jobs over a bucket of images: label and predict. `run.py` contains the steps in the order of the data."""
