"""thalweg: train networks on text, and learn how far from the best possible they are.

The public names stand in `__init__.pyi`; each is imported when it is first used, so that `import thalweg` costs next
to nothing.
"""

import sys

# `python -m thalweg` has put the current folder first on the path; what lies beside somebody's data is not to run.
if sys.argv[:1] == ["-m"] and "thalweg" in sys.orig_argv and not sys.flags.safe_path:
    del sys.path[0]

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
