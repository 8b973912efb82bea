"""How good labels are: a random sample, people's judgements of it, and what these say of all rows."""
