"""Become a program that the system ends when the process that started it dies; run as a script, by process_groups.py.

usage: python die_with_parent.py PARENT PROGRAM [ARGUMENT …]

Linux alone knows this: prctl(2), PR_SET_PDEATHSIG, which stays through the exec.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]):  # it has died before
    sys.exit(128 + signal.SIGTERM)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]} cannot be started ({error.strerror})")
