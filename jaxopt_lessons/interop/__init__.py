"""Going over from another library, and working beside it."""
