"""``python -m samfast.cli``."""

from samfast.cli import main

if __name__ == "__main__":
    main()
