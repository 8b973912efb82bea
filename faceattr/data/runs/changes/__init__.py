"""What a later version of a run adds to its plan and leaves out of it: updates and deletions."""
