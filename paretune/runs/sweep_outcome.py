"""The outcome of a run in its sweep (goals, baseline, constraints, pruned), stored in the run's W&B summary under `paretune`.

So a run means the same whether it is read from a study, from run files, or from a server. In-process trials write it before
they finish, the engine adds it to the runs of other people's programs (paretune/runs/outcome_file.py), and our server to the
runs of its sweeps. A summary key of that name without a schema is the program's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.core.provenance import SCHEMA

KEY = "paretune"


@dataclass(frozen=True)
class SweepOutcome:
    """One run as its sweep sees it."""

    goals: Mapping[str, str] = field(default_factory=dict)  # objective: minimize or maximize
    baseline: bool = False  # whether it is the default configuration
    feasible: bool | None = None  # whether it keeps the sweep's constraints; None where the sweep has none, or it has no result
    pruned: int | None = None  # the epoch at which the sweep stopped it
    created: float | None = None  # seconds since 1970; a server knows only when an offline run was uploaded
    broken: tuple[str, ...] = ()  # the constraints that it breaks, as the sweep states them

    def to_summary(self) -> dict[str, Any]:
        """Return what the run's summary keeps."""
        known: dict[str, Any] = {"schema": SCHEMA, "goals": dict(self.goals)}
        known |= {"baseline": True} if self.baseline else {}
        known |= {name: value for name in ("feasible", "pruned", "created") if (value := getattr(self, name)) is not None}
        known |= {"broken": list(self.broken)} if self.broken else {}
        return {KEY: known}


def is_outcome(value: Any) -> bool:
    """Whether a value under KEY was written by paretune."""
    return isinstance(value, Mapping) and isinstance(value.get("schema"), int)


def outcome_of(summary: Mapping[str, Any]) -> SweepOutcome:
    """Return what a run's summary says of its sweep; that it says nothing where paretune has written nothing."""
    known = summary.get(KEY)
    if not isinstance(known, Mapping) or not is_outcome(known):
        return SweepOutcome()
    goals = known.get("goals")
    broken = known.get("broken")
    feasible, pruned, created = (known.get(name) for name in ("feasible", "pruned", "created"))
    return SweepOutcome(
        {str(name): str(goal) for name, goal in goals.items()} if isinstance(goals, Mapping) else {},
        known.get("baseline") is True,
        feasible if isinstance(feasible, bool) else None,
        pruned if isinstance(pruned, int) else None,
        float(created) if isinstance(created, int | float) else None,
        tuple(map(str, broken)) if isinstance(broken, list) else (),
    )
