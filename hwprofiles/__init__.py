"""What was measured: the stored form of a machine profile, loading it, checking it."""
