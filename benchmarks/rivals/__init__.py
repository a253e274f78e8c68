"""What `benchmarks.hosts` compares us with, each run by a program of its own."""
