"""Pictures of a policy at work: gates over time, exit depth, kept patches, success against compute.

Nothing is imported here: matplotlib loads only when a picture is drawn.
"""
