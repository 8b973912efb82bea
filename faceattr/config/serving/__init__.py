"""The config of `faceattr serve`: the server, and the limits of what is sent to it."""
