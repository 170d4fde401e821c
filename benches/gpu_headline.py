"""The headline on a GPU: the same contenders and table, all rows in float32 and bfloat16, in one call.

    python benches/gpu_headline.py DATA --model vit_b --checkpoint sam_vit_b_01ec64.pth

Malloc plays no part there, so that one setting is measured. Budgets are such that ten minutes are enough.
"""

from __future__ import annotations

import sys

from contenders.job import ROWS
from headline import main

DEFAULTS = ["--bf16-rows", ",".join(ROWS), "--mallocs", "kept", "--images", "128", "--encodes", "128"]
DEFAULTS += ["--budget", "6", "--curve-seeds", "1"]

if __name__ == "__main__":
    main([*DEFAULTS, *sys.argv[1:]], device="cuda")
