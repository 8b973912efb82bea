"""The plain path through the Hugging Face modules, which the packed engine has to agree with."""
