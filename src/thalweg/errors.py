"""The user's own mistakes, told in a sentence."""

from typing import final


@final
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
