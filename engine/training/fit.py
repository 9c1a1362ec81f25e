"""One stage run on Ray Train, from its last state if it has one.

Enters: a stage, and a connected cluster. Leaves: the directory of its best state, and its metrics
on disk. Left to others: what a worker does (worker.py), making stages (stages.py), and writing the
checkpoint (write.py).
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from engine.runs.cluster import describe_failure
from engine.training.curve import Curve, Metrics
from engine.training.resume import rescue_state
from engine.training.worker import Stage, work
from schemas.configs.finetune import FinetuneConfig
from schemas.errors import JobError


def fit_stage(
    config: FinetuneConfig,
    folder: Path,
    name: str,
    stage: Stage,
    seen: Callable[[str, Metrics, int], None] | None,
) -> str:
    """Run a stage under ``folder``, unless it is done; gives the directory of its best state.

    The best state is the one with the highest F1 on the dev split; without one, it is the last.
    ``seen`` is called with the stage's name, metrics as they come, and its number of steps.

    Raises:
        JobError: if training failed.
    """
    import ray
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    note = folder / name / "done.json"
    if note.exists():
        return str(json.loads(note.read_text())["state"])
    scored = bool(stage.dev)
    gpus, cpus = _resources(ray.cluster_resources(), config.workers)
    stage = replace(stage, rescued=rescue_state(folder / name / "states"))
    queue = Queue(actor_options={"num_cpus": 0})
    trainer = TorchTrainer(
        work,
        train_loop_config={"stage": stage, "queue": queue},
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=gpus, resources_per_worker={"CPU": cpus}
        ),
        run_config=RunConfig(
            name="states",
            storage_path=str(folder / name),
            checkpoint_config=CheckpointConfig(
                num_to_keep=1 if scored else 2,
                checkpoint_score_attribute="dev_f1" if scored else None,
            ),
        ),
    )

    def tell(metrics: Metrics) -> None:
        if seen:
            seen(name, metrics, stage.optimisation.steps)

    try:
        with Curve(folder / name).follow(queue, tell):
            result = trainer.fit()
    except Exception as e:  # Ray Train raises its own, of several kinds
        raise JobError(f"{name} stage: {describe_failure(e)}") from e
    best = result.get_best_checkpoint("dev_f1", "max") if scored else None
    checkpoint = best or result.checkpoint
    if checkpoint is None:
        raise JobError(f"{name} stage: ended without a state")
    note.write_text(json.dumps({"state": checkpoint.path}))
    return str(checkpoint.path)


def _resources(cluster: dict[str, float], workers: int) -> tuple[bool, float]:
    """Whether each worker gets a GPU, and how many CPUs it reserves."""
    # One CPU is left to the tasks that read and encode: without any, nothing would come.
    spare = max(cluster.get("CPU", 1) - 1, 0) / workers
    return cluster.get("GPU", 0) >= workers, float(int(spare)) if spare >= 1 else round(spare, 2)
