"""The last net for credentials: what a process logs, and the tracebacks that it prints.

Enters: a process that has met credentials. Leaves: its log records and tracebacks without them,
whichever library wrote them. Left to others: the texts that we make ourselves, which are redacted
where they are made (schemas/errors.py, jobs/cli/session.py).
"""

import logging
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from schemas.credentials import redact


class RedactingFilter(logging.Filter):
    """Takes credentials out of a record: of its message, its traceback and its stack."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record is changed."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a handler would print the arguments as they are
            message = f"{record.msg} {record.args}"
        if (safe := redact(message)) != message:
            record.msg, record.args = safe, ()
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = describe_exception(record.exc_info[1]).rstrip("\n")
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True


def guard_logs() -> None:
    """From now on, redact every log record of this process, and the traceback of an error that
    nobody handles, in any thread. Done twice, it changes nothing.

    Records are filtered where they are made: a filter of a logger does not see those of the loggers
    below it, and Ray and vLLM put up handlers of their own at any time.
    """
    make_record = logging.getLogRecordFactory()
    if isinstance(make_record, _Redacting):
        return
    logging.setLogRecordFactory(_Redacting(make_record))
    sys.excepthook = _Hook(sys.excepthook)
    in_thread = _Hook(threading.excepthook)
    threading.excepthook = lambda args: in_thread.of_args(args)
    ignored = _Hook(sys.unraisablehook)
    sys.unraisablehook = lambda args: ignored.of_args(args)


def describe_exception(error: BaseException) -> str:
    """An exception with its traceback and causes, as Python prints it, without credentials."""
    return redact("".join(traceback.format_exception(error)))


class _Redacting:
    """Makes log records without credentials."""

    def __init__(self, make_record: Any):
        self._make_record = make_record
        self._filter = RedactingFilter()

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make_record(*args, **kwargs)
        self._filter.filter(record)
        return record


class _Hook:
    """Prints an error that nobody handles: as before, unless its traceback holds credentials."""

    def __init__(self, before: Any):
        self._before = before

    def __call__(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """In the place of :data:`sys.excepthook`."""
        if not self._print(error, trace):
            self._before(kind, error, trace)

    def of_args(self, args: Any) -> None:
        """In the place of the hooks of threads, and of errors that cannot be raised."""
        if args.exc_value is None or not self._print(args.exc_value, args.exc_traceback):
            self._before(args)

    def _print(self, error: BaseException, trace: TracebackType | None) -> bool:
        """Print the error if it holds credentials; gives whether it did."""
        whole = "".join(traceback.format_exception(type(error), error, trace))
        if (safe := redact(whole)) == whole:
            return False
        sys.stderr.write(safe)
        return True
