"""The platform's container policies: who keeps a container, and for how long.  The pre-loader never does."""
