"""Training: a pure step, a pure epoch, and ``fit``, the loop on the host around compiled chunks."""
