"""Statements about a training: what is wrong with it, the evidence, and what to change.

A `Subject` is what is looked at (networks, batches, history), `probes` measure it, `symptoms` are rules from the
measurements to findings, and `diagnose` does all of it for a run, an objective or anyone's own loop.
"""

import lazy_loader

# The public names stand in `__init__.pyi`; each is imported when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
