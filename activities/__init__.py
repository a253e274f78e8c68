"""What workflows ask for: thin classes that join ledger, hosts and mail, and translate their errors."""
