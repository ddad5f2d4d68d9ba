"""Found by every Python that the tests of sweeps on Slurm start.

``CLOCK_AHEAD_ON`` names a node whose clock is an hour ahead, in what it says and in the times of files.
``GATE`` is a file without which no run gets past its tenth update, and then only slowly, so that there is time to
disturb it; ``SLOW`` makes it slow elsewhere than on Slurm, too. ``NO_PICTURES`` replaces the drawing of reports, which
takes longer than the runs. ``QUICK_LOOKS`` lets a driver look at the queue often. ``CLOCK`` is a file with the seconds
by which the clock was stepped.
"""

import os
import sys
import time
import types

if os.environ.get("CLOCK_AHEAD_ON", "") == os.environ.get("SLURMD_NODENAME"):
    now, touch = time.time, os.utime
    time.time = lambda: now() + 3600
    os.utime = lambda path: touch(path, (time.time(), time.time()))

if os.environ.get("CLOCK"):
    right = time.time

    def stepped():
        try:
            with open(os.environ["CLOCK"]) as file:
                return right() + float(file.read() or 0)
        except (OSError, ValueError):
            return right()

    time.time = stepped

if os.environ.get("QUICK_LOOKS") and "sweep" in sys.orig_argv:
    from bench.sweep import slurm_monitor, slurm_waiting

    slurm_monitor.POLL_SECONDS = 0.5
    slurm_monitor.QUEUE_SECONDS = 2.0
    slurm_waiting.RELEASE_SECONDS = (0.0, 5.0, 10.0, 20.0)

if os.environ.get("GATE") and (os.environ.get("SLURM_JOB_ID") or os.environ.get("SLOW")):
    from bench.sweep.progress_file import ProgressFile

    step = ProgressFile._step

    def slow(self, event):
        step(self, event)
        time.sleep(0.05)
        while event.step == 10 and not os.path.exists(os.environ["GATE"]):
            time.sleep(0.05)

    ProgressFile._step = slow

if os.environ.get("NO_PICTURES"):
    import bench

    report = types.ModuleType("bench.report")
    report.__path__ = [os.path.join(folder, "report") for folder in bench.__path__]  # the real modules
    report.write = lambda name, *rest, **more: []
    report.table_text = lambda *words: ""
    sys.modules["bench.report"] = report
