"""``python -m firstlight`` is the command ``firstlight``."""

from firstlight.cli.main import main

if __name__ == "__main__":
    main()
