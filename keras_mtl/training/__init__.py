"""The seam between `compile`/`fit` and the tasks: losses, labels, trackers, steps."""
