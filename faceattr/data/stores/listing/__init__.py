"""Lists a prefix of many millions of keys in several streams of pages, in the keys' order and in flat memory."""
