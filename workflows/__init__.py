"""Order and time, and nothing else: no I/O, no clock but the workflow's, no secrets."""
