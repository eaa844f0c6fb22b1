"""The recipes for clusters: Ray's validator takes the one of `ray up`, KubeRay's fields are those of its schema, and the Slurm
script runs, with srun and scontrol replaced by scripts that know one node."""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from configs.load import load
from tests.launch.cluster.ray_head import free_ports
from tests.launch.whole_run import ROOT, SMALL, Ended, await_end_of_all, environment

RECIPES = ROOT / "recipes"
IMAGES = ("Dockerfile", "Dockerfile.cpu")


def objects(**properties: Any) -> dict[str, Any]:
    """A schema of an object with these fields and no others; a name that ends in `_` must be there."""
    needed = [name.removesuffix("_") for name in properties if name.endswith("_")]
    named = {name.removesuffix("_"): kind for name, kind in properties.items()}
    return {"type": "object", "properties": named, "required": needed, "additionalProperties": False}


def lists(kind: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": kind, "minItems": 1}


TEXT, WHOLE, YES, ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "boolean"}, {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONTAINER = objects(
    name_=TEXT,
    image_=TEXT,
    command=lists(TEXT),
    env=lists(objects(name_=TEXT, value=TEXT, valueFrom=ANY)),
    resources=objects(requests=TEXTS, limits=TEXTS),
    volumeMounts=lists(objects(name_=TEXT, mountPath_=TEXT, readOnly=YES)),
)
POD = objects(
    metadata=ANY, spec_=objects(containers_=lists(CONTAINER), volumes=lists({"type": "object", "required": ["name"]}))
)
GROUP = {"rayStartParams_": TEXTS, "template_": POD}
CLUSTER = objects(
    rayVersion_=TEXT,
    authOptions=objects(mode_={"enum": ["token", "disabled"]}),
    enableInTreeAutoscaling=YES,
    headGroupSpec_=objects(**GROUP, serviceType=TEXT),
    workerGroupSpecs_=lists(objects(**GROUP, groupName_=TEXT, replicas=WHOLE, minReplicas=WHOLE, maxReplicas=WHOLE)),
)
# the fields of KubeRay's ray.io/v1 that these recipes may use, as its reference lists them
SPECS = {
    "RayJob": objects(
        entrypoint_=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=YES,
        ttlSecondsAfterFinished=WHOLE,
        backoffLimit=WHOLE,
        rayClusterSpec_=CLUSTER,
    ),
    "RayCluster": CLUSTER,
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((RECIPES / name).read_text(encoding="utf-8")))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents(name) if document["kind"] == kind]
    return found


@pytest.mark.parametrize(("name", "kind"), [("kuberay-job.yaml", "RayJob"), ("kuberay-cluster.yaml", "RayCluster")])
def test_a_recipe_for_kuberay_has_the_fields_of_its_schema(name: str, kind: str) -> None:
    found = of_kind(name, kind)
    assert found["apiVersion"] == "ray.io/v1"
    assert found["metadata"]["name"]
    problems = [
        f"{list(error.path)}: {error.message}" for error in Draft202012Validator(SPECS[kind]).iter_errors(found["spec"])
    ]
    assert problems == []
    cluster = found["spec"].get("rayClusterSpec", found["spec"])
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for each in pod["containers"] for mount in each["volumeMounts"]} <= volumes
        assert "/dev/shm" in {mount["mountPath"] for each in pod["containers"] for mount in each["volumeMounts"]}
    assert cluster["rayVersion"] == pinned("ray")
    server = next(document for document in documents(name) if document["kind"] == "Service")
    assert server["metadata"]["name"] in str(found), "the run's redis.url"


def pinned(name: str) -> str:
    return re.findall(rf"^{name}(?:\[\w+\])?==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)[0]


def test_the_job_on_kubernetes_has_the_gpus_that_its_preset_plans() -> None:
    spec = of_kind("kuberay-job.yaml", "RayJob")["spec"]
    preset = re.findall(r"--config (\S+)", spec["entrypoint"])[0]
    overrides = re.findall(r"\b\w+\.\w+=\S+", spec["entrypoint"])
    config = load(preset, overrides)
    needed = config.rollout.workers * config.rollout.tensor_parallel + config.learner.ranks + config.meta_rm.ranks
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert group["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"]) == needed


def test_ray_takes_the_recipe_of_ray_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    monkeypatch.setenv("HOME", str(tmp_path))  # the local provider keeps its state there
    (config,) = documents("ray-up.yaml")
    prepared = prepare_config(dict(config))
    validate_config(prepared)
    with pytest.raises(Exception, match="min_wokers"):
        validate_config(prepared | {"min_wokers": 1})


def test_the_recipe_of_ray_up_starts_the_autoscaler_that_knows_local_machines() -> None:
    """Ray's second autoscaler, which `ray up` asks for, never records the head that it runs on: it is dead to it at once."""
    from ray.autoscaler._private import autoscaler
    from ray.autoscaler._private.commands import with_envs

    recorder = "record_local_head_state_if_needed"
    assert hasattr(autoscaler, recorder)
    users = Path(autoscaler.__file__).parents[1].joinpath("v2").rglob("*.py")
    newer = [file.name for file in users if recorder in file.read_text(encoding="utf-8")]
    assert newer == [], "Ray's newer autoscaler knows it now: RAY_enable_autoscaler_v2=0 may go"
    (config,) = documents("ray-up.yaml")
    (_, start) = with_envs(config["head_start_ray_commands"], {"RAY_enable_autoscaler_v2": "1"})
    assert re.findall(r"RAY_enable_autoscaler_v2=(\d)", start)[-1] == "0", "what stands last counts"


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_made_by_targets_that_there_are(image: str) -> None:
    lines = re.sub(r"\\\n\s*", " ", (ROOT / image).read_text(encoding="utf-8")).splitlines()
    instructions = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    assert {word for word, _, _ in instructions} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "ARG", "CMD"}
    assert instructions[0][0] == "FROM"
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    called = {target for _, _, rest in instructions for target in re.findall(r"\bmake (?!-)([a-z][\w-]*) ", rest)}
    assert called
    assert called <= targets


def test_an_image_takes_nothing_that_git_ignores() -> None:
    """What a clone has beside its files, gigabytes of it perhaps, is no part of an image."""

    def names(file: str) -> list[str]:
        return [line.removeprefix("**/").strip("/") for line in (ROOT / file).read_text(encoding="utf-8").split()]

    left_out = names(".dockerignore")
    assert ".git" in left_out
    assert [name for name in names(".gitignore") if not any(fnmatch(name, pattern) for pattern in left_out)] == []


SRUN = """#!/bin/bash
while [ $# -gt 0 ]; do case $1 in --*) shift ;; *) break ;; esac; done
if [ "$1" = hostname ]; then echo 127.0.0.1; else SLURM_NODEID=0 exec "$@"; fi
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$SLURM_SUBMIT_DIR/requeued"; fi
"""


def in_slurm(where: Path, *, srun: str, scontrol: str, **variables: str) -> dict[str, str]:
    """The environment of a job, with these variables of its own and its tools replaced by these scripts."""
    tools = where / "tools"
    tools.mkdir(exist_ok=True)
    for name, text in {"srun": srun, "scontrol": scontrol}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return environment(PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", VIRTUAL_ENV=sys.prefix, **variables)


def test_the_slurm_script_is_sound(tmp_path: Path) -> None:
    script = RECIPES / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, str(script)], check=True)
    for arguments, why in (([], "usage: sbatch"), (["tiny"], "give run.id=ID"), (["tiny", "run.id=a"], "give run.dir=FOLDER")):
        ended = subprocess.run(["bash", str(script), *arguments], capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert why in ended.stderr


def test_the_slurm_script_takes_the_first_of_many_nodes(tmp_path: Path) -> None:
    """Whoever writes more names than somebody reads dies of SIGPIPE, and the job with it, without a word."""
    env = in_slurm(
        tmp_path,
        srun='#!/bin/bash\necho "$@" >&2; exit 7\n',
        scontrol="#!/bin/bash\nseq -f node%g 100000\n",
        SLURM_SUBMIT_DIR=str(ROOT),
        SLURM_JOB_NUM_NODES="100000",
        SLURM_JOB_NODELIST="node[1-100000]",
    )
    command = ["bash", str(RECIPES / "slurm.sbatch"), "tiny", f"run.dir={tmp_path}", "run.id=mine"]
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (7, "--nodes=1 --ntasks=1 --nodelist=node1 hostname --ip-address\n")


def slurm_job(where: Path, *overrides: str) -> subprocess.Popen[str]:
    """Starts the script as Slurm's batch shell does, on a machine whose only node is this one."""
    tree = where / "clone"
    if not tree.exists():
        tree.mkdir()
        for room in ROOT.iterdir():
            if room.name not in (".git", "runs", "build"):
                (tree / room.name).symlink_to(room)
    ray_port, redis_port = free_ports(2)
    env = in_slurm(
        where,
        srun=SRUN,
        scontrol=SCONTROL,
        SLURM_SUBMIT_DIR=str(tree),
        SLURM_JOB_NUM_NODES="1",
        SLURM_JOB_NODELIST="localhost",
        SLURM_JOB_ID="7",
        SPCT_RAY_PORT=str(ray_port),
        SPCT_REDIS_PORT=str(redis_port),
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
    )
    command = ["bash", str(RECIPES / "slurm.sbatch"), "tiny", f"run.dir={where}", "run.id=mine", *SMALL, *overrides]
    return subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.full
@pytest.mark.slow
def test_a_slurm_job_that_is_stopped_queues_itself_again_and_goes_on(tmp_path: Path) -> None:
    job = slurm_job(tmp_path, "learner.checkpoint_every=1", "grpo.steps=40", "eval.every=0")
    metrics = tmp_path / "mine" / "metrics.jsonl"
    assert job.stdout is not None
    while not (metrics.exists() and '"learner/version": 2.0' in metrics.read_text()):
        assert job.poll() is None, job.stdout.read()
        try:
            job.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
    job.terminate()  # as Slurm does to the batch shell, by --signal=B:TERM@300
    said, _ = job.communicate(timeout=120)
    assert job.returncode == 130, said
    assert (tmp_path / "clone" / "requeued").read_text() == "requeue 7\n"
    again = slurm_job(tmp_path)
    said, _ = again.communicate(timeout=240)
    assert again.returncode == 0, said
    ended = Ended(status=0, output=said, folder=tmp_path / "mine")
    assert ended.summary["finished"] == "completed"
    assert ended.summary["steps"] == 40
    await_end_of_all(str(tmp_path))
