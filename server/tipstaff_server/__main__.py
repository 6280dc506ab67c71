"""`python -m tipstaff_server`."""

from tipstaff_server.cli import main

if __name__ == "__main__":
    main()
