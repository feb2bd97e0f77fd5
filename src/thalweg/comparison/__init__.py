"""Many runs under one budget: what is compared, each tuned as much as the others, and how sure the answer is."""

import lazy_loader

# The public names stand in `__init__.pyi`; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
