"""Label tables and models for the Hugging Face hub: folders in its formats, and their upload."""
