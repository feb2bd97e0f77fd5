"""The optimizers inside other people's training loops, where these have no place for an objective."""

import lazy_loader

# The public names stand in `__init__.pyi`; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
