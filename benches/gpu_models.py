"""The encoder and the decoder step on a GPU, in one call: ``python benches/gpu_models.py``."""

from __future__ import annotations

import sys

from models import main

if __name__ == "__main__":
    main(sys.argv[1:], device="cuda", batch=4)
