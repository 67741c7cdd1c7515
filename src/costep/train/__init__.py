"""Training: schedules, exit supervision, a resumable loop and self-contained checkpoints."""
