"""Level 6: costep in LeRobot, as the policy type ``costep`` and the environment ``costep_desk``.

Nothing is imported here.  LeRobot finds the plug-in through the distribution
``lerobot_policy_costep``; in Python write ``import lerobot_policy_costep`` first.
"""
