"""From a run's scores to its CSV files, tables and plots."""
