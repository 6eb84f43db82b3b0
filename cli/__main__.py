"""`python -m cli`, what the launcher runs in the live environment."""

from cli.app import main

main()
