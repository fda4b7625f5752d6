"""The real backend: OpenWhisk actions in containers that load real models, and a platform of our own to run them."""
