"""`python -m huracan_cli` is `huracan`."""

from huracan_cli.main import entry_point

if __name__ == "__main__":
    entry_point()
