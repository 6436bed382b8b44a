"""The commands of the command line, one small module a group; ``lab/cli.py`` names and registers them."""
