"""A real Slurm on one machine: controller, virtual nodes with fake GPUs, accounting. For tests and try-outs.

Everything is in one folder: configuration, keys, sockets, spool, database, logs. Nothing of the system's own Slurm is
read or written, ports and sockets are the cluster's own, so several clusters can stand side by side, each in a folder.
Only root can run it, and only Debian's packages of Slurm 22.05 were tried. Standard library only.
"""
