#!/usr/bin/env python3
"""Show what a benchmark would send: `python inspect_prompts.py --help` is the manual.

The script itself is bench/inspect_prompts.py, beside the others and what they import; this one
takes its place, so that it can be called from the project's root too.
"""

import os
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent / "bench" / "inspect_prompts.py"

if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, str(SCRIPT), *sys.argv[1:]])
