"""The embedded world: stand-in daemons and what `twinline dev`, the demo and the tests need around them."""
