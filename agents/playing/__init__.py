"""Playing: the one way a policy meets a world, here, over processes, or over a Ray cluster."""
