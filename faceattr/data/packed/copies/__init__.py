"""Copies of an image: byte-identical ones and ones that look alike. They never straddle splits."""
