"""What every folder may use and that knows none of them: errors, records, files."""
