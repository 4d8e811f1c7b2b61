# Sourced by every Slurm job before Python starts: the only site-specific file.
# module load cuda
# source /path/to/.venv/bin/activate
