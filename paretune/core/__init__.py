"""What every other package stands on: errors, configuration, progress, provenance, devices, metrics."""
