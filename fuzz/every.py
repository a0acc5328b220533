"""Every target in turn, in one process that instruments the product once; options of libFuzzer count for each.

    python fuzz/every.py -max_total_time=60

Ends at the first finding with its exit code; what was found is left as `crash-*` in the current folder.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import harness

NO_TARGETS = {"harness", "samples", "campaign", "every"}
TARGETS = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in NO_TARGETS)


def main() -> int:
    for name in TARGETS:
        target = importlib.import_module(name)
        sys.stderr.write(f"== {name}\n")
        sys.stderr.flush()
        code = harness.fuzz(target.one, target.seeds)
        if code:
            sys.stderr.write(f"== {name} found something\n")
            return code
    sys.stderr.write(f"== {len(TARGETS)} targets, nothing found\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
