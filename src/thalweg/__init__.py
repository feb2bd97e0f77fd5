"""thalweg: train networks on text, and learn how far from the best possible they are.

The public names stand in `__init__.pyi`; each is imported when it is first used, so that `import thalweg` costs next
to nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
