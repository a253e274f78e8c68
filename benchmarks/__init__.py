"""Measurements that judge the design; `make bench` runs them and rewrites the figures in docs/performance.md."""
