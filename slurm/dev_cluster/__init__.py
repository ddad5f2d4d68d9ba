"""A real Slurm on one machine, for tests and try-outs: controller, virtual nodes with fake GPUs, accounting.

A cluster is one folder with its configuration, keys, sockets, spool, database and logs. It has ports and sockets of its
own and neither reads nor writes anything of a Slurm that the system has, so that several clusters can run at the same
time. Only root can start one. It has been tried with Debian's packages of Slurm 22.05 only. The package needs nothing
but the standard library.
"""
