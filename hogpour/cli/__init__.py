"""The command line: one file a command, tables, plots."""
