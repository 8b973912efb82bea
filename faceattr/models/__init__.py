"""Models: a backbone and one head per attribute; which of its blocks train; the images it takes."""
