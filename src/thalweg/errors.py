"""The user's own mistakes, told in a sentence."""


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a column, an option, a run folder.

    The message is all that is shown (no traceback): what was expected, what was got, what to do. The command line
    ends with exit code 2.

    Args:
        message: one or two full sentences, with the file and line where there is one.

    Example:
        >>> raise InputError("data.csv, line 7: expected a number in column 'score', got 'high'; correct the line.")
        Traceback (most recent call last):
            ...
        thalweg.errors.InputError: data.csv, line 7: expected a number in column 'score', got 'high'; correct the line.
    """


class RankError(RuntimeError):
    """Another of the processes that train together has failed, or has come to other numbers than this one."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, given in the singular, for messages.

    Example:
        >>> counted(1, "row"), counted(2000, "row")
        ('1 row', '2,000 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def capitalized(said: str) -> str:
    """Return a text as the beginning of a sentence; a name or a formula at its front stays as it is.

    Example:
        >>> capitalized("no text is left"), capitalized("chrF 93.4"), capitalized("exp(loss)")
        ('No text is left', 'chrF 93.4', 'exp(loss)')
    """
    first = said.split(" ", 1)[0]
    return said if first != first.lower() or "(" in first else said[:1].upper() + said[1:]


def lowered(said: str) -> str:
    """Return a sentence as part of another one: its first letter is a small one.

    Example:
        >>> lowered("Expected numbers, got 'abc'")
        "expected numbers, got 'abc'"
    """
    return f"{said[:1].lower()}{said[1:]}"


def shown(value: object) -> str:
    """Return a value as a message shows it: as Python writes it, cut after 80 characters.

    Example:
        >>> shown(10**5000), shown("7")
        ('a very long int', "'7'")
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no whole number of more than some thousand digits
        return f"a very long {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def require(holds: bool, what: str, got: object) -> None:
    """Raise ValueError with the sentence "WHAT; got GOT." unless a condition holds.

    Example:
        >>> require(0.0 < 2.0 < 1.0, "Armijo(slope=...) must lie in (0, 1)", 2.0)
        Traceback (most recent call last):
            ...
        ValueError: Armijo(slope=...) must lie in (0, 1); got 2.0.
    """
    if not holds:
        raise ValueError(f"{what}; got {got!r}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of its GPU, did not suffice.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("shape mismatch"))
        (True, False)
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, without importing it
        return True
    words = ("can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
