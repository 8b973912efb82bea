"""The steps of each job, in the order of the data. pipelines/, tune/ and `faceattr` call them."""
