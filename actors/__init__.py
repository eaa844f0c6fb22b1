"""Long-lived workers as plain classes: the rollout actor and the reward actor. `launch/` makes them remote."""
