"""The outcome of a run in its sweep (goals, baseline, constraints, pruned, cause), in the run's W&B summary under `paretune`.

So a run means the same whether it is read from a study, from run files, or from a server. In-process trials write it before
they finish, the engine adds it to the runs of other people's programs (paretune/runs/outcome_file.py), and our server to the
runs of its sweeps. A summary key of that name without a schema is the program's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paretune.core.provenance import SCHEMA
from paretune.runs.study_schema import UNCOUNTED

KEY = "paretune"
OVER = ("finished", "failed", "crashed", "killed")  # W&B's states of a run that has ended


@dataclass(frozen=True)
class SweepOutcome:
    """One run as its sweep sees it."""

    goals: Mapping[str, str] = field(default_factory=dict)  # objective: minimize or maximize
    baseline: bool = False  # whether it is the default configuration
    feasible: bool | None = None  # whether it keeps the sweep's constraints; None where the sweep has none, or it has no result
    pruned: int | None = None  # the epoch at which the sweep stopped it
    cause: str = ""  # why its trial failed; one of UNCOUNTED where the trial was interrupted and is tried again
    created: float | None = None  # when the study gave out its trial, else when the run began; in seconds since 1970
    broken: tuple[str, ...] = ()  # the constraints that it breaks, as the sweep states them

    def to_summary(self) -> dict[str, Any]:
        """Return what the run's summary keeps."""
        known: dict[str, Any] = {"schema": SCHEMA, "goals": dict(self.goals)}
        known |= {"objectives": list(self.goals)} if len(self.goals) > 1 else {}  # a mapping loses its order on the way to a server
        known |= {"baseline": True} if self.baseline else {}
        known |= {"cause": self.cause} if self.cause else {}
        known |= {name: value for name in ("feasible", "pruned", "created") if (value := getattr(self, name)) is not None}
        known |= {"broken": list(self.broken)} if self.broken else {}
        return {KEY: known}

    def state_of(self, state: str) -> str:
        """Return the state of a run that W&B calls `state`: what its sweep says of a run that has ended counts for more."""
        if state not in OVER:
            return state
        if self.pruned is not None:
            return "pruned"
        if self.cause in UNCOUNTED:
            return "interrupted"
        return "failed" if self.cause else state


def is_outcome(value: Any) -> bool:
    """Whether a value under KEY was written by paretune."""
    return isinstance(value, Mapping) and isinstance(value.get("schema"), int)


def outcome_of(summary: Mapping[str, Any]) -> SweepOutcome:
    """Return what a run's summary says of its sweep; that it says nothing where paretune has written nothing."""
    known = summary.get(KEY)
    if not isinstance(known, Mapping) or not is_outcome(known):
        return SweepOutcome()
    told, order = known.get("goals"), known.get("objectives")
    goals = {str(name): str(goal) for name, goal in told.items()} if isinstance(told, Mapping) else {}
    stated = [name for name in order if name in goals] if isinstance(order, list) else []
    broken = known.get("broken")
    feasible, pruned, cause, created = (known.get(name) for name in ("feasible", "pruned", "cause", "created"))
    return SweepOutcome(
        {name: goals[name] for name in dict.fromkeys([*stated, *goals])},
        known.get("baseline") is True,
        feasible if isinstance(feasible, bool) else None,
        pruned if isinstance(pruned, int) else None,
        cause if isinstance(cause, str) else "",
        float(created) if isinstance(created, int | float) else None,
        tuple(map(str, broken)) if isinstance(broken, list) else (),
    )
