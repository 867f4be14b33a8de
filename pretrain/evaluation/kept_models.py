"""The best fine-tuned model of each trained starting point, as transformers' pipelines load it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from convbert.data_pipeline.tokenizer.hugging_face import save_hf_tokenizer
from convbert.data_pipeline.tokenizer.tokenizer import Tokenizer
from convbert.models.encoder import Encoder
from convbert.models.interop.hf_files import write_text
from convbert.models.schema import StrictModel, parse
from convbert.pretrain.evaluation.finished import FinishedSeeds, file_name
from convbert.pretrain.finetune.data import TaskData
from convbert.pretrain.finetune.keeping import require_keepable
from convbert.pretrain.finetune.loop import FinetuneResult
from convbert.pretrain.finetune.workers import InitialEncoder

RECORD = "finetuning.json"
_PIPELINES = {
    "classification": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "qa": "question-answering",
}
_CARD = """\
---
library_name: transformers
pipeline_tag: {pipeline}
---
# {task}, fine-tuned from {start}

Seed {seed} was the best of its seeds on the dev split: {metric} {score:.4f}.

```python
{use}
```

Rows longer than {length} tokens were cut in training.
"""
_USES_PIPELINE = """\
from transformers import pipeline

model = pipeline("{pipeline}", model={place})"""
_USES_CLASS = """\
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({place})
model = AutoModelForQuestionAnswering.from_pretrained({place})  # transformers 5 has no pipeline"""


class KeptModel(StrictModel):
    """Which fine-tuning a kept model is of: what decided it (``digest``), its seed and scores."""

    digest: str
    result: FinetuneResult

    def better_than(self, other: "KeptModel | None") -> bool:
        """Return whether this model replaces another: one of other rows, or of a lower score."""
        if other is None or other.digest != self.digest:
            return True
        return _order(self.result) > _order(other.result)


class KeptModels:
    """Models in ``FOLDER/models``, one for each starting point that was trained before."""

    def __init__(
        self,
        folder: Path,
        data: TaskData,
        starts: Mapping[str, InitialEncoder],
        finished: FinishedSeeds,
        tokenizer: Tokenizer,
    ) -> None:
        """``finished`` knows what decided the results, ``tokenizer`` goes with the models."""
        self.folder = folder / "models"
        self._data, self._finished, self._tokenizer = data, finished, tokenizer
        self._labels = {label for label, start in starts.items() if isinstance(start, Encoder)}

    def place(self, label: str, seed: int) -> Path | None:
        """Return where the model of a seed is written while it is not known to be the best."""
        if label not in self._labels:
            return None
        folder = self.folder / f".{file_name(label)}-seed-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def known(self, label: str, results: Sequence[FinetuneResult]) -> list[FinetuneResult]:
        """Return results that need not be measured again: not the best if its model is gone."""
        if label not in self._labels or not results:
            return list(results)
        best = max(results, key=_order)
        kept = self._kept(label)
        if kept and (kept.digest, kept.result.seed) == (self._finished.digest(label), best.seed):
            return list(results)
        return [result for result in results if result.seed != best.seed]

    def add(self, label: str, result: FinetuneResult) -> None:
        """Keep the model of a seed that has ended, if it is the best so far, or delete it."""
        made = self.folder / f".{file_name(label)}-seed-{result.seed}"
        if not made.is_dir():
            return
        model = KeptModel(digest=self._finished.digest(label), result=result)
        if model.better_than(self._kept(label)):
            self._complete(made, label, model)
            target = self.folder / file_name(label)
            shutil.rmtree(target, ignore_errors=True)
            made.rename(target)
        shutil.rmtree(made, ignore_errors=True)

    def _complete(self, folder: Path, label: str, model: KeptModel) -> None:
        task, result = self._data.task, model.result
        save_hf_tokenizer(self._tokenizer, folder, task.recipe.max_length)
        named, kind = self.folder / file_name(label), _PIPELINES[task.kind]
        place = json.dumps(str(named), ensure_ascii=False)
        use = _USES_CLASS if task.kind == "qa" else _USES_PIPELINE
        card = _CARD.format(
            pipeline=kind,
            task=task.name,
            start=label,
            seed=result.seed,
            metric=result.metric,
            score=result.score,
            use=use.format(pipeline=kind, place=place),
            length=task.recipe.max_length,
        )
        write_text(folder / "README.md", card)
        write_text(folder / RECORD, model.model_dump_json(indent=1) + "\n")

    def _kept(self, label: str) -> KeptModel | None:
        path = self.folder / file_name(label) / RECORD
        if not path.is_file():
            return None
        content = path.read_bytes()
        return parse(KeptModel, content, path, what="the record of a model", remedy="delete it")


def require_all_keepable(starts: Mapping[str, InitialEncoder], data: Sequence[TaskData]) -> None:
    """Raise ``UserError`` unless transformers has a class for every start with every task."""
    for task in data:
        for start in starts.values():
            require_keepable(start.config if isinstance(start, Encoder) else start, task)


def _order(result: FinetuneResult) -> tuple[float, int]:
    return result.rank(), -result.seed
