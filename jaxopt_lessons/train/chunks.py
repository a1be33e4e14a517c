"""How a run is cut into chunks: the steps that one compiled program does before the host has its turn."""

from collections.abc import Iterator


def pieces(steps: int, longest: int) -> Iterator[int]:
    """Cuts so many steps into lengths of which there are few: ``longest`` as often as it fits, then powers of two."""
    while steps:
        length = longest if steps >= longest else 1 << (steps.bit_length() - 1)
        yield length
        steps -= length
