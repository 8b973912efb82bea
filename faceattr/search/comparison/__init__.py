"""How trials of a search are compared: uncertainty, when to stop, what cannot be told apart, repeated seeds."""
