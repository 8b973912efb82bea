"""The distributed jobs: the only room that knows Ray."""
