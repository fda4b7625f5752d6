"""The decision core: compiled, shared by every backend (``docs/engine.md``)."""
