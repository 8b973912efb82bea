"""How sure a figure is: intervals, and the bootstrap over images and groups."""
