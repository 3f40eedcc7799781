"""The commands of `plimsoll` by group; `streams.command_line` puts them together. Each imports what it runs when it runs."""
