"""The action server: OpenWhisk's container protocol over a pre-load manager with one process per function."""
