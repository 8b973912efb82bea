"""faceattr: attribute labels and models for millions of face images.

`import faceattr` loads neither torch nor ray; the rooms that need them import them.
"""

__version__ = "0.1.0"
