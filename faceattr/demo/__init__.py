"""The built-in demo: drawn faces, a tiny BLIP that answers questions about them, and a local S3 server."""
