"""The embedded default: drawn faces, a tiny BLIP that answers about them, and a local S3 server."""
