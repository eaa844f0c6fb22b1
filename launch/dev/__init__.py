"""For developers: the algorithm as a plain synchronous loop, the tiny base policy, real pairs. Nothing imports this room."""
