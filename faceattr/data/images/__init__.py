"""Images: encoded bytes to RGB pixels, in this process or in a child process that may crash."""
