"""What the server process that loader processes are made from imports first; nobody else does.

It ignores the signals that ask training to stop (see `worker_signals`), and ends when training does.
"""

import signal

import core.loader.collate  # noqa: F401 (so that loader processes need not)

signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
