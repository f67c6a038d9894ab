"""The web pages of the service: projects, runs, sweeps, comparisons, and the painter, for whoever has logged in."""
