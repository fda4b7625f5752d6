"""ML functions: the protocol that declares one, and the shipped ones.

``real_backend.functions.catalogue`` holds the shipped functions, ``real_backend.functions.toy`` tiny ones for tests.
Any other module or Python file with a mapping ``FUNCTIONS`` from names to :class:`~.protocol.Function` does as well.
"""
