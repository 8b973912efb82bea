"""The commands of `faceattr audit`: how good labels are, by people's judgements of a sample."""
