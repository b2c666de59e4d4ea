"""Errors that end a command, and the exit code that each of them means."""

import signal
import sys
from collections.abc import Callable

DONE, REFUSED, ENVIRONMENT, DIVERGED = 0, 2, 3, 4


class RefusedError(Exception):
    """Input or configuration that is not accepted (exit code 2).

    Args:
        subject: the file, folder or configuration key at fault.
        code: one word for the kind of fault, such as `TRUNCATED` or `CONFIG`.
        reason: what was expected, what was found, and the way out.
    """

    def __init__(self, subject: object, code: str, reason: str):
        line = f"ERROR {subject}: {code}: {reason}"
        # A file's name may hold line breaks and codes that steer a terminal.
        super().__init__("".join(c if c.isprintable() else "?" for c in line))
        self.subject, self.code, self.reason = str(subject), code, reason

    def __reduce__(self):
        """So that it comes back whole from another process."""
        return type(self), (self.subject, self.code, self.reason)


class DivergedError(Exception):
    """Training whose loss or gradients stay non-finite (exit code 4)."""


class InterruptedBySignalError(BaseException):
    """A termination signal; the exit code is 128 plus its number.

    A `BaseException`, as `KeyboardInterrupt` is, so that no guard swallows it.
    """

    def __init__(self, signal_number: int):
        super().__init__(f"interrupted by {signal.Signals(signal_number).name}")
        self.exit_code = 128 + signal_number


def _raise_interrupted(signal_number: int, _frame: object) -> None:
    raise InterruptedBySignalError(signal_number)


def run_command(command: Callable[[], None]) -> int:
    """Runs `command` and returns the exit code of its outcome.

    A refusal, a fault of the environment and an interruption each print one line on
    standard error. Any other exception is a fault of ours and keeps its traceback.
    """
    signal.signal(signal.SIGTERM, _raise_interrupted)
    try:
        command()
    except RefusedError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except DivergedError as error:
        print(f"ERROR training: DIVERGED: {error}", file=sys.stderr)
        return DIVERGED
    except OSError as error:
        where = error.filename or "system"
        print(f"ERROR {where}: ENVIRONMENT: {error.strerror or error}", file=sys.stderr)
        return ENVIRONMENT
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 128 + signal.SIGINT
    except InterruptedBySignalError as error:
        print(f"{error}; the same command continues", file=sys.stderr)
        return error.exit_code
    return DONE
