"""Records -> one HTML file that opens anywhere; plain data in, no torch."""

import lazy_loader

# The public names stand in `__init__.pyi`; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
