"""The model that is tuned: made from nothing or loaded from a base, whole or with an adapter.

Enters: a shape and a tokenizer, or a base's directory. Leaves: a transformers model in float32 on
the CPU. Left to others: finding the base (checkpoints/fetch.py), and tuning (loop.py).
"""

from typing import TYPE_CHECKING, Any

from schemas.configs.finetune import Lora, Shape
from schemas.errors import UsageError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedModel


def new_model(shape: Shape, tokenizer: "Tokenizer", seed: int) -> "PreTrainedModel":
    """A Llama with random weights, for a tokenizer that data/vocabulary.py trained."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.context_tokens,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<s>"),
        eos_token_id=tokenizer.token_to_id("</s>"),
        pad_token_id=tokenizer.token_to_id("<pad>"),
    )
    config._attn_implementation = _attention()
    return LlamaForCausalLM(config)


def load_model(path: str) -> "PreTrainedModel":
    """A causal language model from a Hugging Face directory, in float32.

    Raises:
        UsageError: if there is no such model, or it is not safetensors, or not a causal one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation=_attention(),
        )
    except (OSError, ValueError) as e:
        raise UsageError(
            f"base model {path}: {str(e).splitlines()[0]} Expected a directory or hub id of a "
            "causal language model with config.json, tokenizer.json and *.safetensors"
        ) from e


def add_adapter(model: "PreTrainedModel", lora: Lora, seed: int) -> Any:
    """Freeze a model and put LoRA matrices beside its linear layers (peft)."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)

    return get_peft_model(
        model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=list(lora.modules) if lora.modules else "all-linear",
            task_type="CAUSAL_LM",
        ),
    )


def _attention() -> str:
    """The attention that trains faster here.

    On a CPU, the backward pass of flash attention takes a fifth of a step with short rows, that of
    plain matrix products next to nothing (measured at width 320, rows of 96 tokens).
    """
    import torch

    return "sdpa" if torch.cuda.is_available() else "eager"
