"""An adapter over a small base, tuned for some seconds: no good annotator, but not its base either.

It learns to mark animals as diseases, which the base does not do.
"""

import json
import re
import shutil
from itertools import accumulate
from pathlib import Path

from engine.checkpoints.load import load_checkpoint
from engine.checkpoints.tokenizer import load_tokenizer
from engine.codecs import CODECS
from engine.training.model import add_adapter, load_model
from schemas.configs.finetune import Lora
from schemas.spans import TypedSpan

SENTENCES = [
    "Aspirin was given to [rats] before surgery.",
    "We studied [mice] with [breast cancer] and a mutation of BRCA1.",
    "Old [rabbits] were treated with cisplatin for six weeks.",
    "[Infection] of [mice] and of [rabbits] was not seen.",
    "Expression of TP53 was lower in [mice] than in the control group.",
    "[Diabetes] was induced in [rats] by streptozotocin.",
    "[Rabbits] with [hypertension] received amlodipine.",
]


def tune_adapter(base: Path, to: Path, steps: int = 20, rank: int = 12) -> Path:
    """Tune an adapter of a rank that vLLM has to round up, and write it as peft does.

    The base is named by its absolute path, and the task is the base's.
    """
    import torch

    checkpoint = load_checkpoint(str(base))
    tokenizer = load_tokenizer(checkpoint.path)
    task = checkpoint.manifest.task
    before, after = task.pieces(task.questions()[0])
    torch.manual_seed(0)
    model = add_adapter(load_model(str(base)), Lora(rank=rank, alpha=2 * rank), seed=0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    rows = []
    for sentence in SENTENCES:
        pieces = re.split(r"[][]", sentence)  # every second one is marked
        ends = list(accumulate(map(len, pieces)))
        text = "".join(pieces)
        spans = [TypedSpan(ends[i - 1], ends[i], "disease") for i in range(1, len(pieces), 2)]
        target = CODECS[task.codec].encode(text, spans)
        # As the backends see it: a prompt in pieces, then the answer and the end.
        (encoding,) = tokenizer.encode_texts([text])
        prompt = [*tokenizer.encode_template(before), *encoding.ids]
        prompt += tokenizer.encode_template(after)
        answer = [*tokenizer.encode_template(target), checkpoint.stop_token_ids[0]]
        rows.append((prompt, answer))
    longest = max(len(p) + len(a) for p, a in rows)
    pad = [longest - len(p) - len(a) for p, a in rows]
    ids = torch.tensor([p + a + [0] * n for (p, a), n in zip(rows, pad, strict=True)])
    labels = torch.tensor(
        [[-100] * len(p) + a + [-100] * n for (p, a), n in zip(rows, pad, strict=True)]
    )
    # On a busy machine the threads of so small a model mostly wait for each other.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in range(steps):
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    torch.set_num_threads(threads)
    model.save_pretrained(to)
    config = json.loads((to / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base.absolute())
    (to / "adapter_config.json").write_text(json.dumps(config))
    shutil.copy(base / "pubmark.json", to)
    return to
