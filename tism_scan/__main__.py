"""``python -m tism_scan``."""

from tism_scan.cli import main

if __name__ == "__main__":
    main()
