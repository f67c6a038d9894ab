"""What `make gpu` writes: one JSON file of all that was measured, and a Markdown table of it. Standard library alone."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CELLS = ("gpu_seconds", "cpu_seconds", "ratio", "peak_gpu_mib")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows that a part has written so far; a line that is cut off is left out."""
    rows: dict[str, dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    for line in lines:
        with contextlib.suppress(ValueError):
            values = json.loads(line)
            row = rows.setdefault(values["row"], {"name": values.pop("row")})
            figures = {**row.get("figures", {}), **values.pop("figures", {})}
            peak = max(row.get("peak_gpu_mib", 0), values.pop("peak_gpu_mib", 0))
            row |= {**values, "figures": figures, "peak_gpu_mib": peak}
    for row in rows.values():
        if row.get("gpu_seconds") and row.get("cpu_seconds"):
            row["ratio"] = row["cpu_seconds"] / row["gpu_seconds"]
    return list(rows.values())


def write_atomically(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write gpu.json and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "gpu.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_atomically(folder / "gpu.md", as_markdown(report))


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as a table, with figures and notes below it."""
    machine = report["machine"]
    lines = [f"# `make gpu`: {machine.get('device', 'no device yet')}", ""]
    if report["simulated"]:
        lines += ["**Simulated device: times mean nothing.**", ""]
    if report["quick"]:
        lines += ["Shortened (`QUICK=1`): figures are of few images.", ""]
    lines += [_about(report), "", "CPU / GPU above 1: the GPU is faster. Seconds. Memory is the GPU's, at most.", ""]
    lines += ["| what | GPU | CPU | CPU / GPU | memory |", "|---|---|---|---|---|"]
    details = []
    for part in report["parts"]:
        state = "" if part["state"] == "done" else f" ({part['state']})"
        lines.append(f"| **{part['name']}**: {part['what']}{state} | | | | |")
        for row in part["rows"]:
            lines.append(f"| {row['name']} | {' | '.join(_cell(name, row.get(name)) for name in CELLS)} |")
            details += _details(row)
        details += [f"- {part['name']}: {note}" for note in part["notes"]]
    return "\n".join([*lines, "", "## Figures and notes", "", *details, ""])


def _about(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    memory = f"{machine['memory_gib']} GiB" if "memory_gib" in machine else None
    facts = {
        "memory": memory,
        "capability": machine.get("capability"),
        "driver": machine.get("driver"),
        "CUDA": machine.get("cuda"),
        "torch": machine.get("torch"),
        "numpy": machine.get("numpy"),
        "scikit-learn": machine.get("scikit_learn"),
        "Python": machine.get("python"),
        "CPU": f"{machine.get('cpu')}, {machine.get('cores')} cores" if "cpu" in machine else None,
        "pictures": machine.get("pictures"),
        "commit": report["commit"],
        "date": report["date"],
        "state": f"{report['state']} after {report['seconds']:.0f} s",
    }
    return "; ".join(f"{name} {value}" for name, value in facts.items() if value is not None) + "."


def _cell(name: str, value: Any) -> str:
    if value is None or (name == "peak_gpu_mib" and value == 0):
        return ""
    if name == "ratio":
        return f"{value:.2f}"
    return f"{value:,} MiB" if name == "peak_gpu_mib" else f"{value:.4g}"


def _details(row: Mapping[str, Any]) -> list[str]:
    figures = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in row["figures"].items()]
    notes = [*row.get("gpu_notes", []), *row.get("cpu_notes", [])]
    return [f"- {row['name']}: {'; '.join([*figures, *notes])}"] if figures or notes else []
