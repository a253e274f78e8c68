"""How orders come in: a typed Python client, the command line, and later the HTTP API."""
