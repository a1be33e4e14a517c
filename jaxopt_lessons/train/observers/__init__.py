"""Observers: what looks at a run between its compiled chunks, keeps it, stops it, or tells of it."""
