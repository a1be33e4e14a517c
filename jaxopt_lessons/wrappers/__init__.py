"""Transformations of transformations: they take one or several, and decide when and how those are applied."""
