"""What the `faceattr` command can do: one file a command, each a config with what it does as its call."""
