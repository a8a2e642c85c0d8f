"""The command line tells what it can do, and the core alone says how to get it."""

import subprocess
import sys

told = subprocess.run([sys.executable, "-m", "geovlm", "--help"], capture_output=True, text=True, check=True)
assert "search" in told.stdout
