"""The HTTP API: a face of `starter.desk`, which holds what it does; here is only how that looks over HTTP."""
