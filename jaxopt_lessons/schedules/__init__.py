"""Schedules: values that map a count of updates to a number. One family per file."""
