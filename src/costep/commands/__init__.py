"""Level 6: what the command line does, one file per command.

A command has ``add(parser)``, which must import nothing heavy, and ``run(arguments)``, which
returns plain results for ``--json``.
"""
