"""A Slurm of one machine for tests: sbatch, srun, sacct, scontrol and scancel as far as submitit calls them.

`install(folder)` puts them into a folder. Jobs are processes; what they are asked lies beside: ID.sbatch the script, ID_K.step
the process group of a step, ID_K.requeued one line a time that the job was put into the queue again.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

VERBS = ("sbatch", "srun", "sacct", "scontrol", "scancel")


def install(folder: Path) -> Path:
    """A folder for PATH with the commands."""
    folder.mkdir()
    for verb in VERBS:
        script = folder / verb
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).absolute()} {verb} {folder} "$@"\n')
        script.chmod(0o755)
    return folder


def sbatch(folder: Path, script: str) -> None:
    """Start a job for each index of the array."""
    text = Path(script).read_text()
    number = 100 + len(list(folder.glob("*.sbatch")))
    (folder / f"{number}.sbatch").write_text(text)
    array = re.search(r"--array=0-(\d+)", text)
    for index in range(int(array[1]) + 1) if array else [None]:
        job = f"{number}" if index is None else f"{number}_{index}"
        said = {"SLURM_JOB_ID": str(10 * number + (index or 0)), "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
        said |= {} if index is None else {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(index)}
        keeper = subprocess.Popen(
            [sys.executable, __file__, "job", str(folder), job],
            env={**os.environ, **said},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        (folder / f"{job}.pid").write_text(str(keeper.pid))
    print(f"Submitted batch job {number}")


def job(folder: Path, name: str) -> None:
    """Run a job's script, and again where it was put into the queue again meanwhile."""
    script, requeued = folder / f"{name.split('_')[0]}.sbatch", folder / f"{name}.requeued"
    while True:
        before = requeued.read_text() if requeued.exists() else ""
        subprocess.run(["bash", str(script)], check=False)
        if (requeued.read_text() if requeued.exists() else "") == before:
            break
    (folder / f"{name}.ended").write_text("")


def srun(folder: Path, *arguments: str) -> None:
    """Run a step in a process group of its own, which gets the signals."""
    left = list(arguments)
    while left[0].startswith("--"):
        del left[: 2 if left[0] in ("--output", "--error") else 1]
    os.setsid()
    (folder / f"{_name()}.step").write_text(str(os.getpid()))
    os.execvp(left[0], left)


def sacct(folder: Path, *_: str) -> None:
    """The state of all jobs."""
    print("JobID|State|NodeList")
    for path in folder.glob("*.pid"):
        print(f"{path.stem}|{'COMPLETED' if path.with_suffix('.ended').exists() else 'RUNNING'}|here")


def scontrol(folder: Path, verb: str, name: str) -> None:
    """Put a job into the queue again."""
    assert verb == "requeue"
    with (folder / f"{name}.requeued").open("a") as file:
        file.write(f"{time.time()}\n")


def scancel(folder: Path, *names: str) -> None:
    """End jobs."""
    for name in names:
        for path in folder.glob(f"{name}*.pid"):
            subprocess.run(["kill", "--", f"-{path.read_text()}"], check=False)


def _name() -> str:
    job, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{index}" if job else str(int(os.environ["SLURM_JOB_ID"]) // 10)


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
