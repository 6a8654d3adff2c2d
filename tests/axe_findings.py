"""What axe-core has found, in words."""

from __future__ import annotations

from typing import Any


def serious(results: Any) -> list[str]:
    """Each finding of impact serious or critical on lines of its own."""
    return [
        f"{found['id']} ({found['impact']}): {found['help']}\n  {node['html'][:200]}\n"
        f"  {node['failureSummary']}"
        for found in results.response["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]
