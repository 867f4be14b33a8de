"""Seeds as a function of what they are for, so that nothing random has a history.

The mixer is SplitMix64's finalizer (Steele, Lea and Flood 2014); ``objective/counter_rng.py``
evaluates the same one on tensors.
"""

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
WORD = 1 << 64


def mix(*words: int) -> int:
    """Hash integers to one in [0, 2**63), for seeding a generator."""
    state = 0
    for word in words:
        z = (state ^ word) + GOLDEN
        z = ((z ^ (z % WORD >> 30)) * MIX_1) % WORD
        z = ((z ^ (z >> 27)) * MIX_2) % WORD
        state = z ^ (z >> 31)
    return state >> 1
