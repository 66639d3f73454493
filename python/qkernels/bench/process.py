# SPDX-License-Identifier: Apache-2.0
"""A worker as the runner sees it: started, asked, stopped while others run, ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .worker import first_line

# Elsewhere a worker cannot be stopped, and its idle threads may take time from the one that runs.
CAN_STOP = hasattr(signal, "SIGSTOP")
_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from qkernels.bench.worker import main
main({module!r})
"""


class WorkerLost(Exception):
    """The process ended or did not answer in time; the text says which."""


class WorkerFailed(Exception):
    """The request raised an exception in the worker, which can go on."""


class Worker:
    """A process that hosts the adapter `module`, with `environment` on top of this one's."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path, module=module)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **environment},
            encoding="utf-8",
            start_new_session=True,  # a Ctrl-C is the runner's alone
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._stopped = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")  # the end

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        """Wake the worker, have one request answered, stop it again.

        Raises WorkerFailed or WorkerLost; a worker that is lost has been ended.
        """
        self.send(**request)
        return self.receive(timeout)

    def send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._wake()
        with suppress(OSError):  # it has ended: receive says how
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def receive(self, timeout: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            self.end()
            raise WorkerLost(f"no answer within {timeout:.0f} s") from None
        if not line:
            raise WorkerLost(self._last_words())
        self._stop()
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise WorkerFailed(reply["error"])
        return reply

    def end(self) -> None:
        """Kill the process; again is fine."""
        self._process.kill()
        self._process.wait()
        self._reader.join(5)  # until a child of the worker lets go of its end
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError):  # what was not sent cannot be sent any more
            self._process.stdin.close()
        if not self._reader.is_alive():
            self._process.stdout.close()
        self._stderr.close()

    def _stop(self) -> None:
        """Return when every thread of it has stopped, so that the next one has the CPUs."""
        if CAN_STOP and not self._stopped:
            self._stopped = True
            self._process.send_signal(signal.SIGSTOP)
            if sys.platform == "linux":
                os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _wake(self) -> None:
        if self._stopped:
            self._stopped = False
            self._process.send_signal(signal.SIGCONT)

    def _last_words(self) -> str:
        """How the process ended."""
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode("utf-8", "replace").splitlines()
        said = next(filter(None, map(first_line, reversed(lines))), "")
        self.end()
        how = f"ended with code {code}"
        if code < 0:
            how = f"killed: {signal.strsignal(-code) or -code}"
        return f"{how}: {said}" if said else how
