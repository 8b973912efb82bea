"""The commands of `faceattr`: one file per command, each a config whose call runs the command."""
