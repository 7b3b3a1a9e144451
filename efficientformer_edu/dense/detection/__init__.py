"""Detection: heads, priors, label assignment, boxes and postprocessing."""
