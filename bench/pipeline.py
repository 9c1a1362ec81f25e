"""The pipeline against a bare loop over ``vllm.LLM.generate`` and against ``ray.data.llm``.

    .venv/bin/python bench/pipeline.py ../shared/data/pubmed-xml --shape 100m --citations 24

Same citations, same prompts, same engine settings. ``--shape 100m`` makes a checkpoint of about 100
million random weights (its completions are noise, of the length that the token limit allows); on
two cores nano is so small that Ray and the engine fight for them. Ways alternate. Printed are, of
medians, the ratios of two speeds: of generating (the seconds of a run over all prompts less those
of a run over one citation, which leaves out the start of Ray and of the engine), and of the whole
run from start to end. JSON on the last line.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WAYS = ("bare", "pubmark", "ray.data.llm")
CONCURRENT = 256
SHAPES: dict[str, dict[str, int] | None] = {
    "nano": None,
    "100m": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 13,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
    },
}


def make_checkpoint(shape: str, folder: Path) -> Path:
    """nano, or a model of another shape with random weights, nano's tokenizer and task."""
    nano = ROOT / "checkpoints/nano"
    changes = SHAPES[shape]
    if changes is None:
        return nano
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    target = folder / shape
    shutil.copytree(nano, target, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(nano, **changes)
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM
    model.from_config(config, dtype=torch.bfloat16).save_pretrained(target)
    return target


def engine_settings(checkpoint: str, speculative_tokens: int) -> dict[str, Any]:
    """What engine/backends/vllm.py sets on a CPU, for the two others."""
    settings: dict[str, Any] = {
        "skip_tokenizer_init": True, "generation_config": "vllm", "max_model_len": 1024,
        "max_num_seqs": CONCURRENT, "enable_prefix_caching": True, "enforce_eager": True,
        "distributed_executor_backend": "uni", "disable_log_stats": True,
    }  # fmt: skip
    if speculative_tokens:
        settings["speculative_config"] = {
            "method": "ngram", "num_speculative_tokens": speculative_tokens,
            "prompt_lookup_min": 2, "prompt_lookup_max": 4,
        }  # fmt: skip
    return settings


def read_prompts(checkpoint: str, source: str, citations: int) -> list[dict[str, Any]]:
    """The prompts that ``pubmark annotate --limit`` asks, in its order."""
    import pyarrow as pa

    from engine.checkpoints.load import load_checkpoint
    from engine.planning.plan import make_plan, no_keys
    from engine.sources.read import read_citations, scan_shard
    from engine.sources.shards import find_shards
    from engine.steps.prepare import load_prompter
    from engine.steps.sentences import split_sentences

    task = load_checkpoint(checkpoint).manifest.task
    prompter = load_prompter(checkpoint, task.model_dump_json())
    shards = find_shards([source])
    scans = pa.concat_tables(scan_shard(s, i) for i, s in enumerate(shards))
    wanted = make_plan(scans, no_keys, "", limit=citations).wanted
    prompts = []
    for shard, mask in zip(shards, wanted, strict=True):
        for batch in read_citations(shard, mask) if mask.any() else ():
            for row in batch.to_pylist():
                spans = split_sentences(row["text"], row["title_length"])
                prompts += prompter.make_prompts(row["text"], spans)
    return [{"token_ids": p.token_ids, "max_tokens": p.max_tokens} for p in prompts]


def sampling(max_tokens: int) -> dict[str, Any]:
    """As engine/backends/vllm.py samples."""
    return {"temperature": 0.0, "logprobs": 0, "detokenize": False, "stop_token_ids": [2],
            "max_tokens": max_tokens}  # fmt: skip


def run_bare(options: argparse.Namespace, checkpoint: str, citations: int) -> None:
    """One call of ``LLM.generate`` over all prompts; nothing is read, aligned or stored."""
    from vllm import LLM, SamplingParams

    prompts = read_prompts(checkpoint, options.source, citations)
    engine = LLM(checkpoint, **engine_settings(checkpoint, options.speculative_tokens))
    engine.generate(
        [{"prompt_token_ids": p["token_ids"]} for p in prompts],
        [SamplingParams(**sampling(p["max_tokens"])) for p in prompts],
        use_tqdm=False,
    )


def run_pubmark(options: argparse.Namespace, checkpoint: str, citations: int) -> None:
    """The job itself: read, plan, prompt, generate, align, commit."""
    from jobs.annotate import run
    from schemas.configs.annotate import AnnotateConfig

    with tempfile.TemporaryDirectory() as target:
        run(AnnotateConfig(
            sources=[options.source], to=target, checkpoint=checkpoint, limit=citations,
            speculative_tokens=options.speculative_tokens, max_concurrent_prompts=CONCURRENT,
        ))  # fmt: skip


def run_ray_data_llm(options: argparse.Namespace, checkpoint: str, citations: int) -> None:
    """``ray.data.llm`` over the same prompts; nothing is read, aligned or stored."""
    import ray
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from engine.runs.cluster import connected

    prompts = read_prompts(checkpoint, options.source, citations)
    with connected():
        config = vLLMEngineProcessorConfig(
            model_source=checkpoint,
            engine_kwargs=engine_settings(checkpoint, options.speculative_tokens),
            concurrency=1,
            batch_size=64,
            max_concurrent_batches=8,
            chat_template_stage=False, tokenize_stage=False, detokenize_stage=False,
            placement_group_config={"bundle_per_worker": {"CPU": 1, "GPU": 0}},
            log_engine_metrics=False,
            runtime_env={"env_vars": engine_environment()},
        )  # fmt: skip
        processor = build_processor(
            config,
            preprocess=lambda row: {
                "tokenized_prompt": row["token_ids"],
                "sampling_params": sampling(int(row["max_tokens"])),
            },
            postprocess=lambda row: {"generated": row["num_generated_tokens"]},
        )
        blocks = max(1, min(32, len(prompts) // 64))
        dataset = processor(ray.data.from_items(prompts, override_num_blocks=blocks))
        count = sum(len(b["generated"]) for b in dataset.iter_batches(batch_size=None))
        if count != len(prompts):
            raise SystemExit(f"{count} completions for {len(prompts)} prompts")


def engine_environment() -> dict[str, str]:
    """What engine/backends/vllm.py sets for one engine on two cores, but for a cache that holds all
    concurrent prompts at either shape: which of them an engine pauses is not what is measured."""
    return {
        "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) - 1)),
    }  # fmt: skip


def seconds(way: str, options: argparse.Namespace, checkpoint: str, citations: int) -> float:
    """Wall time of one run of a way in a process of its own."""
    command = [sys.executable, __file__, options.source, "--way", way, "--run", checkpoint,
               "--citations", str(citations),
               "--speculative-tokens", str(options.speculative_tokens)]  # fmt: skip
    began = time.perf_counter()
    done = subprocess.run(
        command, env=os.environ | engine_environment(), capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{way}: {done.stderr[-3000:]}")
    return time.perf_counter() - began


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--shape", choices=SHAPES, default="100m")
    parser.add_argument("--citations", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speculative-tokens", type=int, default=0)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run = {"bare": run_bare, "pubmark": run_pubmark, "ray.data.llm": run_ray_data_llm}
        run[options.way](options, options.run, options.citations)
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(make_checkpoint(options.shape, Path(folder)))
        prompts = len(read_prompts(checkpoint, options.source, options.citations))
        prompts -= len(read_prompts(checkpoint, options.source, 1))
        fixed: dict[str, list[float]] = {way: [] for way in options.ways}
        whole: dict[str, list[float]] = {way: [] for way in options.ways}
        for number in range(options.rounds):
            for way in options.ways:
                fixed[way].append(seconds(way, options, checkpoint, 1))
                whole[way].append(seconds(way, options, checkpoint, options.citations))
                print(f"round {number + 1}  {way:<13} {whole[way][-1]:6.1f} s, of them fixed"
                      f" {fixed[way][-1]:5.1f} s", flush=True)  # fmt: skip
    median_whole = {way: statistics.median(whole[way]) for way in options.ways}
    generating = {way: median_whole[way] - statistics.median(fixed[way]) for way in options.ways}
    ratios = {
        f"pubmark / {way}": {
            "generating": round(generating[way] / generating["pubmark"], 3),
            "whole": round(median_whole[way] / median_whole["pubmark"], 3),
        }
        for way in options.ways
        if way != "pubmark" and "pubmark" in options.ways
    }
    for name, ratio in ratios.items():
        print(f"{name}: {ratio['generating']} generating, {ratio['whole']} from start to end")
    print(json.dumps({
        "shape": options.shape, "citations": options.citations, "prompts": prompts,
        "speculative_tokens": options.speculative_tokens,
        "prompts_per_s": {w: round(prompts / s, 2) for w, s in generating.items()},
        "ratios": ratios,
        "whole_s": {w: [round(s, 1) for s in v] for w, v in whole.items()},
        "fixed_s": {w: [round(s, 1) for s in v] for w, v in fixed.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
