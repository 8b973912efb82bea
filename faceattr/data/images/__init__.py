"""Images: encoded bytes become RGB pixels, in this process or in one that can be lost."""
