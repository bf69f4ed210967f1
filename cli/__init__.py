"""The `autoprivacy` command: thin, no logic of its own."""
