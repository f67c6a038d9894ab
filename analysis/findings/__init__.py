"""What the steps of the analysis find out of runs, as dataclasses and functions; the commands stand above."""
