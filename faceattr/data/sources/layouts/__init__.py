"""One file per layout of labels. `faceattr.data.sources.registry` lists them all."""
