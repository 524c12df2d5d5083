"""`python -m ci_tools` is `switchback`."""

from ci_tools.cli import main

if __name__ == "__main__":
    main()
