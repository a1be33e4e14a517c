"""No argument, order or default of anything public changes unnoticed."""

import signatures


def test_arguments_and_defaults_are_the_recorded_ones():
    assert signatures.lines() == signatures.FILE.read_text().splitlines()  # signatures.py says how to record others
