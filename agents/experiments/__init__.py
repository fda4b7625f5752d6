"""The papers' experiments in the simulator, beside the numbers they published."""
