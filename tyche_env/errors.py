"""The error that is the user's to mend: shown as one line, without a traceback."""

from traces.errors import UserError as UserError
