"""The worker's main script: hands over to AWS's runtime client, or is the same loop in plain Python.

Run by `lifeline.py` as `bootstrap.py HANDLER awslambdaric|plain`, in the function's folder. The plain loop follows
the Runtime API (AWS Lambda Developer Guide) and awslambdaric's documented behaviour: the context object, the shape of
errors, the log format of the root logger. It differs in this: `decimal.Decimal` in a response becomes a float, and
AWS_LAMBDA_LOG_FORMAT is not read. It imports nothing of `processor`, which is the function's to import.
"""

from __future__ import annotations

import decimal
import http.client
import importlib
import io
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

PREFIX = "/2018-06-01/runtime"
Handler = Callable[[Any, "Context"], Any]


class Context:
    """What Lambda passes to a handler beside the event."""

    def __init__(self, headers: http.client.HTTPMessage) -> None:
        self.aws_request_id = headers["Lambda-Runtime-Aws-Request-Id"]
        self.invoked_function_arn = headers["Lambda-Runtime-Invoked-Function-Arn"]
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.client_context = None
        self.identity = SimpleNamespace(cognito_identity_id=None, cognito_identity_pool_id=None)
        self._deadline_ms = int(headers["Lambda-Runtime-Deadline-Ms"])

    def get_remaining_time_in_millis(self) -> int:
        """Give the milliseconds left until the function's timeout."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message: object) -> None:
        """Write to the function's log."""
        sys.stdout.write(str(message))


class _Unbuffered(io.TextIOWrapper):
    """A stdout of which a crash loses nothing, and which is written before a response is posted."""

    def write(self, text: str) -> int:
        count = super().write(text)
        self.flush()
        return count


class _RequestFilter(logging.Filter):
    aws_request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.aws_request_id
        return True


class PlainRuntime:
    """The runtime loop: ask for an invocation, run the handler, post what came of it, for ever."""

    def __init__(self, address: str) -> None:
        self._api = http.client.HTTPConnection(address)
        self._filter = _RequestFilter()
        handler = logging.StreamHandler(sys.stdout)
        handler.addFilter(self._filter)
        handler.setFormatter(
            logging.Formatter(
                "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
            )
        )
        logging.Formatter.converter = time.gmtime
        logging.getLogger().addHandler(handler)

    def run(self, handler_name: str) -> None:
        """Import the handler and serve it; posts the error and exits with status 1 when it cannot be imported."""
        try:
            handler = _import(handler_name)
        except Exception as error:  # whatever the user's module raises
            self._post(f"{PREFIX}/init/error", _report(_init_error_type(error), error, ""))
            sys.exit(1)
        while True:
            self._serve(handler)

    def _serve(self, handler: Handler) -> None:
        self._api.request("GET", f"{PREFIX}/invocation/next")
        with self._api.getresponse() as response:
            headers, event = response.headers, response.read()
        context = Context(headers)
        self._filter.aws_request_id = context.aws_request_id
        os.environ["_X_AMZN_TRACE_ID"] = headers["Lambda-Runtime-Trace-Id"]
        invocation = f"{PREFIX}/invocation/{context.aws_request_id}"
        try:
            result = handler(json.loads(event), context)
            if isinstance(result, bytes):
                body, content_type = result, "application/unknown"
            else:
                body, content_type = json.dumps(result, default=_number).encode(), "application/json"
        except Exception as error:  # whatever the handler raises
            self._post(f"{invocation}/error", _report(type(error).__name__, error, context.aws_request_id))
        else:
            self._post(f"{invocation}/response", body, content_type)

    def _post(self, path: str, body: bytes, content_type: str = "application/json") -> None:
        self._api.request("POST", path, body, {"Content-Type": content_type})
        with self._api.getresponse() as response:
            response.read()


def _import(handler_name: str) -> Handler:
    module_name, _, function_name = handler_name.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module_name.replace("/", ".")), function_name)
    return handler


def _init_error_type(error: Exception) -> str:
    """Name the error as Lambda does."""
    if isinstance(error, ImportError):
        return "Runtime.ImportModuleError"
    if isinstance(error, SyntaxError):
        return "Runtime.UserCodeSyntaxError"
    return "Runtime.HandlerNotFound" if isinstance(error, AttributeError) else type(error).__name__


def _report(error_type: str, error: Exception, request_id: str) -> bytes:
    """Give the JSON of an error, and write it to the log."""
    ours = (__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename not in ours]
    trace = traceback.format_list(frames)
    if isinstance(error, SyntaxError):
        trace.append(f'  File "{error.filename}" Line {error.lineno}\n    {error.text}')
    sys.stdout.write(f"[ERROR] {error_type}: {error}\rTraceback (most recent call last):\r")
    sys.stdout.write("\r".join("".join(trace).splitlines()) + "\n")
    report = {"errorMessage": str(error), "errorType": error_type, "requestId": request_id, "stackTrace": trace}
    return json.dumps(report).encode()


def _number(value: object) -> float:
    if isinstance(value, decimal.Decimal):
        return float(value)
    raise TypeError(f"a handler's response must be JSON: {type(value).__name__} is not")


def _show_failed_import(handler_name: str) -> None:
    """Print where an import failed: awslambdaric reports that it did, without a trace."""
    try:
        importlib.import_module(handler_name.rpartition(".")[0].replace("/", "."))
    except Exception:  # whatever the user's module raises
        traceback.print_exc()


def main() -> None:
    """Run the handler under the chosen runtime, until the process is ended."""
    handler_name, runtime = sys.argv[1:]
    if runtime == "plain":
        sys.stdout = _Unbuffered(sys.stdout.buffer, encoding="utf-8")
        PlainRuntime(os.environ["AWS_LAMBDA_RUNTIME_API"]).run(handler_name)
        return
    from awslambdaric.__main__ import main as run_native

    try:
        run_native(["awslambdaric", handler_name])
    except SystemExit:
        _show_failed_import(handler_name)  # nothing to show, and nothing done, if it was the handler that exited
        raise


if __name__ == "__main__":
    main()
