"""Data: the typed contract with a robot, normalisation, LeRobotDataset writing, the frame cache and
training windows."""
