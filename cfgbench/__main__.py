"""`python -m cfgbench` is the console script."""

from cfgbench.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
