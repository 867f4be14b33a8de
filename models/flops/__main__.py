"""Print the published training costs beside the computed ones."""

import argparse

from convbert.models.flops.table import page, published_table


def main() -> None:
    """Print the table, or with ``--markdown`` the whole page of documentation."""
    parser = argparse.ArgumentParser(prog="python -m convbert.models.flops", description=__doc__)
    parser.add_argument("--markdown", action="store_true", help="print all of docs/flops.md")
    arguments = parser.parse_args()
    print(
        page() if arguments.markdown else published_table(), end="" if arguments.markdown else "\n"
    )


if __name__ == "__main__":
    main()
