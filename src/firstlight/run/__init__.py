"""Run directories, provenance, configuration, execution and progress."""
