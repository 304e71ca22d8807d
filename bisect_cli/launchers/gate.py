"""Waits for a byte on a pipe, then becomes another command; ends if the pipe closes first. Run as a script by
launchers.local.
"""

import os
import sys

if __name__ == "__main__":
    pipe = int(sys.argv[1])
    go = os.read(pipe, 1)
    os.close(pipe)
    if go:
        try:
            os.execvp(sys.argv[2], sys.argv[2:])
        except OSError as error:
            sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
