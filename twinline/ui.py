"""Leads people to a workflow in Temporal's web interface."""

from collections.abc import Callable
from urllib.parse import quote

Page = Callable[[str], str]
"""The page of a workflow, by its id."""


def workflow_page(base: str, namespace: str, workflow_id: str, run_id: str = "") -> str:
    """The page of a workflow: of this run, or without one of the latest; `base` is where the interface is."""
    page = f"{base.rstrip('/')}/namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
    return f"{page}/{quote(run_id, safe='')}/history" if run_id else page
