"""What the machines of a cluster have, and how a job uses it: cores, GPUs, what Ray itself needs."""
