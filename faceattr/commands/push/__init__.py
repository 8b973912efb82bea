"""The commands that upload to the Hugging Face hub."""
