"""Submitting training as a job, on this machine or on Slurm."""
