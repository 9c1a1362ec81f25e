"""One stage on Ray Train, from its last state if it has one."""

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
    """Run a stage, from its last state if it has one; gives where its best state is."""
    import ray
    from ray.train import CheckpointConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    note = folder / name / "done.json"
    if note.exists():
        return str(json.loads(note.read_text())["state"])
    gpus = ray.cluster_resources().get("GPU", 0) >= config.workers
    # One CPU is left to the tasks that read and encode: without any, nothing would come.
    spare = max(ray.cluster_resources().get("CPU", 1) - 1, 0) / config.workers
    share = float(int(spare)) if spare >= 1 else round(spare, 2)
    stage = replace(stage, rescued=rescue_state(folder / name / "states"))
    queue = Queue(actor_options={"num_cpus": 0})
    scored = bool(stage.dev)
    trainer = TorchTrainer(
        work,
        train_loop_config={"stage": stage, "queue": queue},
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=gpus, resources_per_worker={"CPU": share}
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
    curve = Curve(folder / name)

    def tell(metrics: Metrics) -> None:
        if seen:
            seen(name, metrics, stage.optimisation.steps)

    try:
        with curve.follow(queue, tell):
            result = trainer.fit()
    except Exception as e:  # Ray Train raises its own, of several kinds
        raise JobError(f"{name} stage: {describe_failure(e)}") from e
    best = result.get_best_checkpoint("dev_f1", "max") if scored else None
    checkpoint = best or result.checkpoint
    if checkpoint is None:
        raise JobError(f"{name} stage: ended without a state")
    note.write_text(json.dumps({"state": checkpoint.path}))
    return str(checkpoint.path)
