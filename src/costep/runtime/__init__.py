"""Level 4: running a policy, step by step, in an environment or on a robot."""
