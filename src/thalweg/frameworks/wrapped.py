"""The `Descent` inside what a framework has made of it."""

from thalweg.optim.descent import Descent


def descent_in(optimizer: object) -> Descent | None:
    """Return the `Descent` that an optimizer is or that frameworks have wrapped; None where there is none."""
    for _ in range(5):
        inner = getattr(optimizer, "optimizer", None)  # asked first: Lightning's wrapper says that it is a Descent
        if inner is None:
            break
        optimizer = inner
    return optimizer if isinstance(optimizer, Descent) else None
