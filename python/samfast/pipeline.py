"""The whole road in one call: data, cache, train, evaluate, export."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samfast.data import Dataset, describe, load_dataset
from samfast.errors import ConfigError, OutputExistsError, require
from samfast.inference.contract import check_selection
from samfast.progress import Stopwatch, say

if TYPE_CHECKING:
    from samfast.cache import EmbeddingCache
    from samfast.evaluation import Report
    from samfast.runtime import OnnxBundle
    from samfast.train import Run

REPORT_NAME = "report.html"
BUNDLE_NAME = "model.onnxbundle"

QUICKSTART_SCENES = 72
QUICKSTART_EPOCHS = 12

_ELSEWHERE = "choose another folder with out= (--out)"


@dataclass(frozen=True)
class TuneResult:
    """What :func:`tune` made.

    Attributes:
        run: the training run.
        report: zero-shot and tuned on the held-out set.
        report_html: the report as one self-contained page.
        bundle: the tuned model as ONNX.
        seconds: wall-clock time by stage.
    """

    run: Run
    report: Report
    report_html: Path
    bundle: OnnxBundle
    seconds: dict[str, float]

    def summary(self) -> str:
        """The result as a few lines of text: the table, the times, and where everything is."""
        times = "  ".join(f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items())
        return "\n".join(
            [
                self.report.table(),
                "",
                f"times    {times}  (together {sum(self.seconds.values()):.0f} s)",
                f"run      {self.run.path}",
                f"report   {self.report_html}",
                f"ONNX     {self.bundle.path}",
            ]
        )


def tune(
    data: str | Path | Dataset,
    *,
    model: str | None = None,
    checkpoint: str | Path | None = None,
    cache: str | Path | EmbeddingCache | None = None,
    regime: str | None = None,
    prompts: Sequence[str] | None = None,
    selection: Any = "single",
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    overwrite: bool = False,
    **training: Any,
) -> TuneResult:
    """Encode the images once, train the decoder from the cache, judge it on the held-out set, export it as ONNX.

    Started again after an interruption with the same arguments it goes on where it stopped.

    Args:
        data: a folder as :func:`samfast.load_dataset` takes it, or a data set.
        model: ``"tiny"`` (default), ``"vit_b"``, ``"vit_l"`` or ``"vit_h"``.
        checkpoint: the model's official checkpoint; ``tiny`` ships with samfast.
        cache: an embedding cache, or where to keep one; a readable name is made otherwise.
        regime: how prompts are drawn in training; the recipe's, or ``"point+box"``, by default.
        prompts: the prompt kinds to judge by, as :func:`samfast.evaluate` takes them.
        selection: which mask token answers, see :data:`samfast.inference.contract.Selection`.
        seed: of splits, prompts and order; 0 by default.
        out: the run's folder; a readable name under ``runs/`` otherwise.
        device: ``"auto"`` (default), ``"cpu"`` or ``"cuda"``.
        overwrite: replace a finished run of that name.
        **training: anything else :func:`samfast.train_decoder` takes, such as ``recipe``, ``epochs``, ``lr``.

    Returns:
        The run, the report and the ONNX bundle; both are kept in the run's folder.

    Raises:
        SamfastError: one of the stages says what is wrong; what was finished before it is kept.
    """
    from samfast.cache import EmbeddingCache, cache_embeddings
    from samfast.evaluation import evaluate
    from samfast.evaluation.judge import askable
    from samfast.export import export_onnx
    from samfast.runtime.sessions import import_runtime
    from samfast.train import train_decoder
    from samfast.train.loop import check_training
    from samfast.train.prompt_free import run_contract

    seconds: dict[str, float] = {}

    say("1/5  data")
    if isinstance(data, Dataset):
        dataset = data
    else:
        watch = Stopwatch()
        dataset = load_dataset(data, seed=seed or 0)
        seconds["data"] = watch.seconds
    say(describe(dataset))
    config = check_training(dataset, out=out, model=model, regime=regime, seed=seed, device=device, **training)
    askable(prompts, {config.model: run_contract(config, dataset)})
    check_selection(selection)
    require("jinja2", "matplotlib", "onnx", "onnxscript")
    import_runtime()

    watch = Stopwatch()
    say("\n2/5  encode once")
    if not isinstance(cache, EmbeddingCache):
        cache = cache_embeddings(
            dataset,
            model=config.model,
            checkpoint=checkpoint,
            out=cache,
            device=config.device,
            views=config.views,
            augment=training.get("augment") or config.augment,
            seed=config.seed,
        )
    seconds["encode"] = watch.seconds

    watch = Stopwatch()
    say("\n3/5  train the decoder")
    run = train_decoder(
        dataset,
        model=model,
        checkpoint=checkpoint,
        cache=cache,
        regime=regime,
        seed=seed,
        out=out,
        device=device,
        overwrite=overwrite,
        keep_finished=True,
        **training,
    )
    seconds["train"] = watch.seconds

    watch = Stopwatch()
    say("\n4/5  judge it")
    report = evaluate(
        [run],
        dataset,
        prompts=prompts,
        selection=selection,
        cache=cache,
        checkpoint=checkpoint,
        device=config.device,
        seed=config.seed,
        out=run.path,
        overwrite=True,
    )
    seconds["evaluate"] = watch.seconds

    watch = Stopwatch()
    say("\n5/5  export")
    bundle = export_onnx(run, out=run.path / BUNDLE_NAME, checkpoint=checkpoint, overwrite=True)
    seconds["export"] = watch.seconds
    say()
    return TuneResult(run, report, run.path / REPORT_NAME, bundle, seconds)


def quickstart(*, out: str | Path = "samfast-quickstart", seed: int = 0, overwrite: bool = False) -> TuneResult:
    """Tune the embedded model on generated flood scenes: the whole road, offline, in minutes on two CPU cores.

    Started again it goes on where it stopped.

    Args:
        out: a folder for everything: ``data/``, the embedding cache, and ``run/`` with the report and the ONNX bundle.
        seed: of the scenes and of everything after them.
        overwrite: replace a finished quickstart.

    Raises:
        OutputExistsError: ``out`` holds something that is not a quickstart.
        ConfigError: ``out`` holds a quickstart of another seed.
    """
    from samfast.data.scenes import write_flood_scenes

    out = Path(out).expanduser()
    scenes = out / "data"
    made = json.dumps({"scenes": QUICKSTART_SCENES, "seed": seed})
    note = out / "quickstart.json"
    if out.exists() and not out.is_dir():
        raise OutputExistsError("this is a file, and a quickstart is a folder", where=out, fix=_ELSEWHERE)
    if out.exists() and not note.exists() and any(out.iterdir()):
        raise OutputExistsError("this folder holds something else", where=out, fix=_ELSEWHERE)
    if note.exists() and note.read_text() != made:
        raise ConfigError(
            f"this quickstart was made with {note.read_text()}, not with {made}", where=out, fix=_ELSEWHERE
        )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(made)
    if not scenes.exists():  # renamed into place when it is whole
        watch = Stopwatch()
        write_flood_scenes(scenes, QUICKSTART_SCENES, seed=seed)
        say(f"generated {QUICKSTART_SCENES} flood scenes in {watch.seconds:.0f} s: {scenes}\n")
    return tune(
        scenes,
        cache=out / "tiny.samcache",
        out=out / "run",
        epochs=QUICKSTART_EPOCHS,
        seed=seed,
        overwrite=overwrite,
    )
