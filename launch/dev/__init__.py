"""For developers: the algorithm as a plain synchronous loop, the tiny base policy, benchmarks. Nothing imports this room."""
