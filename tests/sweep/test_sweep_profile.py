"""Profiles: from TOML to the lines of sbatch, as Submitit writes them."""

import os
import subprocess
from pathlib import Path

import pytest
from submitit.slurm.slurm import SlurmExecutor

from bench.errors import UsageError
from bench.sweep.profile import Profile

PROFILES = sorted((Path(__file__).resolve().parents[2] / "slurm" / "profiles").glob("*.toml"))
EVERYTHING = """
partition = "gpu"
account = "vision"
qos = "long"
constraint = "a100|h100"
nodelist = "n1"
exclude = "n[2-3]"
nodes = 3
gpus = 2
cpus = 8
memory_gb = 1.5
time_minutes = 90
signal_seconds = 200
array_parallelism = 7
pack = 3
requeue = true
max_requeues = 9
setup = ["module load cuda", "echo ready"]
python = "apptainer exec --nv bench.sif python3"
scratch = "/scratch/$USER"
comment = "two words"

[env]
HF_HUB_OFFLINE = 1
NOTE = "it's $HOME"

[extra]
reservation = "review"
gpu-bind = "none"
mail_type = "FAIL"
nice = 100
exclusive = true
hold = false
"""


@pytest.fixture(autouse=True)
def no_slurm_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlurmExecutor, "affinity", classmethod(lambda cls: 2))


def script(profile: Profile, jobs: int = 1) -> list[str]:
    """The batch script that Submitit submits for a job, or for an array of ``jobs``."""
    executor = SlurmExecutor("folder", python=profile.python)
    executor.update_parameters(**profile.submitit_parameters("sweep"))
    again = SlurmExecutor("folder", python=profile.python)
    again.update_parameters(**executor.parameters)  # what Submitit does for an array
    again.parameters |= {"map_count": jobs} if jobs > 1 else {}
    return again._make_submission_file_text(executor._submitit_command_str, "id").splitlines()


def options(profile: Profile, jobs: int = 1) -> set[str]:
    return {line.removeprefix("#SBATCH --") for line in script(profile, jobs) if line.startswith("#SBATCH ")}


def read(tmp_path: Path, text: str) -> Profile:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return Profile.read(file)


def test_a_full_profile_becomes_this_script(tmp_path: Path) -> None:
    profile = read(tmp_path, EVERYTHING)
    folder = Path("folder").resolve()
    assert options(profile, jobs=1000) == {
        "array=0-999%7",
        "partition=gpu",
        "account=vision",
        "qos=long",
        "constraint='a100|h100'",
        "nodelist=n1",
        "exclude='n[2-3]'",
        "gpus-per-node=2",
        "cpus-per-task=8",
        "mem=1536M",
        "nodes=3",
        "ntasks-per-node=2",
        "time=90",
        "signal=USR2@200",
        "requeue",
        "comment='two words'",
        "reservation=review",
        "gpu-bind=none",
        "mail-type=FAIL",
        "nice=100",
        "exclusive",
        "job-name=sweep",
        "wckey=submitit",
        "open-mode=append",
        f"output={folder}/%A_%a_0_log.out",
        f"error={folder}/%A_%a_0_log.err",
    }
    lines = script(profile)
    commands = lines[lines.index("# setup") :]
    assert commands[-1].startswith("srun ")
    assert commands[-1].endswith(f" --cpus-per-task=8 {profile.python} -u -m submitit.core._submit {folder}")
    assert commands.index("module load cuda") < commands.index("echo ready") < commands.index(commands[-1])


def test_what_a_profile_leaves_out_is_left_to_the_cluster(tmp_path: Path) -> None:
    profile = read(tmp_path, "time_minutes = 60")
    keys = {option.partition("=")[0] for option in options(profile)}
    always = {
        "time",
        "signal",
        "cpus-per-task",
        "requeue",
        "nodes",
        "job-name",
        "wckey",
        "open-mode",
        "output",
        "error",
    }
    assert keys == always
    assert not profile.shell()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("requeue = false", "no-requeue"),
        ("memory_gb = 64", "mem=65536M"),
        ("extra = { gres = 'gpu:a100:1' }", "gres=gpu:a100:1"),
        ("extra = { wckey = 'ours' }", "wckey=ours"),
        ("extra = { licenses = 'hub:2' }", "licenses=hub:2"),
    ],
)
def test_a_field_becomes_its_option(tmp_path: Path, text: str, expected: str) -> None:
    flags = options(read(tmp_path, f"time_minutes = 60\n{text}"))
    assert expected in flags
    names = [option.partition("=")[0] for option in flags]
    assert len(names) == len(set(names))


def test_the_shell_sets_variables_to_the_letter_and_makes_the_scratch_folder(tmp_path: Path) -> None:
    profile = read(tmp_path, EVERYTHING).model_copy(
        update={"scratch": "$ROOT/of $WHO", "setup": ('printf "%s|" "$HF_HUB_OFFLINE" "$NOTE" "$TMPDIR"',)}
    )
    environ = {"PATH": "/usr/bin:/bin", "ROOT": str(tmp_path), "WHO": "me", "HOME": "/wrong"}
    done = subprocess.run(["bash", "-c", "\n".join(profile.shell())], env=environ, capture_output=True, text=True)
    assert done.stdout.split("|")[:3] == ["1", "it's $HOME", f"{tmp_path}/of me"]
    assert (tmp_path / "of me").is_dir()


@pytest.mark.parametrize("file", PROFILES, ids=[file.stem for file in PROFILES])
def test_a_profile_of_ours_is_read_and_says_where_and_how_long(file: Path) -> None:
    profile = Profile.read(file)
    flags = options(profile)
    assert {f"partition={profile.partition}", f"time={profile.time_minutes}", "requeue"} <= flags
    assert ("gpus-per-node=1" in flags) == ("gpu" in file.stem)
    assert profile.env["HF_HUB_OFFLINE"] == 1


def test_the_dev_clusters_configuration_is_found_from_anywhere(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = os.path.relpath(repo / "slurm" / "profiles" / "dev-cluster.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert Profile.read(Path(file)).conf == repo / ".dev-cluster" / "etc" / "slurm.conf"


def test_there_is_a_profile_for_each_kind() -> None:
    assert {file.stem for file in PROFILES} >= {"cpu", "dev-cluster", "gpu", "gpu-preemptible"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("time_minutes = ", "not valid TOML"),
        ("partition = 'gpu'", "time_minutes: Field required"),
        ("time_minutes = 9\npartitoin = 'gpu'", "partitoin: .*did you mean 'partition'"),
        ("time_minutes = 9\nmemory = 4", "memory: .*did you mean 'memory_gb'"),
        ("time_minutes = 0", "time_minutes: .*greater than or equal to 1"),
        ("time_minutes = 9\ngpus = -1", "gpus: "),
        ("time_minutes = 9\nmemory_gb = '32G'", "memory_gb: .*valid number"),
        ("time_minutes = 2\nsignal_seconds = 120", "signal_seconds: .*120 s are not less than time_minutes = 2"),
        ("time_minutes = 1", "signal_seconds: .*120 s are not less than time_minutes = 1"),
        *((f"time_minutes = 9\nmemory_gb = {value}", "memory_gb: ") for value in ("inf", "nan", "1e308", "0")),
        *((f'time_minutes = 9\n{key} = "a\\u0000b"', f"{key}: ") for key in ("conf", "partition", "python")),
        ('time_minutes = 9\nenv = {A = "a\\u0000b"}', r"env\.A"),
        ('time_minutes = 9\nsetup = ["a\\u0000b"]', r"setup\.0"),
        ("time_minutes = 1" + "0" * 40, "time_minutes: "),
        ('time_minutes = 9\nrequeue = "no"', "requeue: .*valid boolean"),
        ("time_minutes = '9'", "time_minutes: .*valid integer"),
        ("time_minutes = 9\ncpus = true", "cpus: .*valid integer"),
        ("time_minutes = 9\nsetup = [5]", r"setup\.0: .*valid string"),
        ("time_minutes = 9\nsetup = 'module load x'", "setup: Input should be a list"),
        ('time_minutes = 9\ncomment = "a\\nb"', "comment: "),
        ("time_minutes = 9\nenv = { 'A-B' = 1 }", r"env\.A-B"),
        ("time_minutes = 9\nscratch = '/tmp/`id`'", "scratch: "),
        ("time_minutes = 9\nextra = { '--hold' = true }", r"extra\.--hold"),
        ("time_minutes = 9\nextra = { partition = 'x' }", "extra: .*'partition' is the profile's field 'partition'"),
        ("time_minutes = 9\nextra = { gpus-per-node = 1 }", "extra: .*'gpus-per-node' is the profile's field 'gpus'"),
        ("time_minutes = 9\nextra = { cpus_per_task = 1 }", "extra: .*'cpus_per_task' is the profile's field 'cpus'"),
        (
            "time_minutes = 9\nextra = { mem-per-gpu = '9G' }",
            "extra: .*'mem-per-gpu' is the profile's field 'memory_gb'",
        ),
        ("time_minutes = 9\nextra = { output = 'x' }", "extra: .*'output' is set by the sweep itself"),
    ],
)
def test_a_wrong_profile_is_one_clear_error(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(UsageError, match=f"mine.toml: .*{fault}") as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_every_option_that_a_field_covers_is_refused_as_an_extra(tmp_path: Path) -> None:
    full = options(read(tmp_path, EVERYTHING.partition("[extra]")[0]), jobs=2)
    for name in (option.partition("=")[0] for option in full):
        if name == "wckey":  # Submitit's own mark, which a site may want to be another
            continue
        with pytest.raises(UsageError, match="extra: "):
            read(tmp_path, f"time_minutes = 9\nextra = {{ {name} = 'x' }}")


def test_a_missing_file_has_near_matches(tmp_path: Path) -> None:
    (tmp_path / "gpu.toml").touch()
    with pytest.raises(UsageError, match=r"gpus\.toml: no such profile; did you mean 'gpu\.toml'"):
        Profile.read(tmp_path / "gpus.toml")
    with pytest.raises(UsageError, match="is a folder"):
        Profile.read(tmp_path)
