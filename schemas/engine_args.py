"""Arguments of vLLM's engine that a config passes on (``engine_args``), and which of them change
what the model answers.

What changes an answer is a part of the annotator, so that rows made with it and without it are told
apart. An argument that is not known to leave answers alone counts as one that changes them.
"""

from collections.abc import Mapping
from typing import Any

INSTEAD = {
    "dtype": "dtype",
    "max_model_len": "context_tokens",
    "max_num_seqs": "max_concurrent_prompts",
    "tensor_parallel_size": "tensor_parallel_size",
    "model": "checkpoint",
    "revision": "checkpoint (OWNER/NAME@REVISION)",
}
"""Arguments that are given by an option of our own."""

NOT_TAKEN = {
    "code_revision", "convert", "data_parallel_address", "data_parallel_backend",
    "data_parallel_external_lb", "data_parallel_hybrid_lb", "data_parallel_rank",
    "data_parallel_size", "enable_lora", "generation_config", "hf_config_path", "hf_token",
    "max_lora_rank", "max_loras", "model_weights", "override_generation_config", "runner",
    "served_model_name", "skip_tokenizer_init", "tokenizer", "tokenizer_mode",
    "tokenizer_revision", "trust_remote_code",
}  # fmt: skip
"""Arguments that pubmark sets itself, or by which an engine would serve something else."""

NEUTRAL = {
    "async_scheduling", "attention_backend", "block_size", "compilation_config", "cpu_offload_gb",
    "cudagraph_capture_sizes", "disable_cascade_attn", "disable_custom_all_reduce",
    "disable_log_stats", "distributed_executor_backend", "download_dir", "enable_chunked_prefill",
    "enable_flashinfer_autotune", "enable_prefix_caching", "enable_sleep_mode", "enforce_eager",
    "fully_sharded_loras", "gpu_memory_utilization", "kv_cache_memory_bytes",
    "kv_cache_metrics", "kv_offloading_backend", "kv_offloading_size", "load_format",
    "long_prefill_token_threshold", "max_cpu_loras", "max_cudagraph_capture_size",
    "max_num_batched_tokens", "max_num_scheduled_tokens", "max_parallel_loading_workers",
    "num_gpu_blocks_override", "numa_bind", "optimization_level", "otlp_traces_endpoint",
    "performance_mode", "pipeline_parallel_size", "prefix_caching_hash_algo",
    "safetensors_load_strategy", "scheduling_policy", "seed", "speculative_config",
    "stream_interval", "use_tqdm_on_load",
}  # fmt: skip
"""Arguments that change the cost of an answer only: memory, batching, compiling, and guesses that
the model itself checks."""


def check_engine_args(given: Mapping[str, Any]) -> None:
    """Refuse arguments that are not a config's to pass on.

    Raises:
        ValueError: naming each, with the option that stands for it.
    """
    faults = [f"{name}: is the option {INSTEAD[name]} here" for name in given if name in INSTEAD]
    faults += [f"{name}: is set by pubmark" for name in given if name in NOT_TAKEN]
    if faults:
        raise ValueError("; ".join(faults))


def changing_answers(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments that are a part of the annotator, by name."""
    return {name: given[name] for name in sorted(given) if name not in NEUTRAL}
