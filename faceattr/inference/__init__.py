"""A trained model at work: images to scores and labels, pictures of them, and files for other runtimes."""
