# Sourced by every Slurm job before Python starts: the only site-specific file. The job runs the Python that submitted it.
# module load cuda
# export NCCL_SOCKET_IFNAME=ib0
