"""The error that is the user's to mend: shown as one line, without a traceback."""


class UserError(ValueError):
    """Bad input.  The message names the file, row, field or option, and what would be right."""
