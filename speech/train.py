"""Training of the bundled networks on mixtures that are made anew for every step."""

import copy
import json
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.files import write_text
from core.training import DrawnBatches, LoopOptions, Outcome, check_folder
from core.training import train as run_loop
from core.training.optim import build_optimizers
from core.weights import Card, find, load, load_into
from speech.config import MATRICES, EnhanceRun, RunConfig, SeparateRun, VoiceRun
from speech.data import Corpus, read_corpora
from speech.dynamic import Mixer
from speech.loss import enhancement_loss, separation_loss, si_sdr, spectral_separation_loss
from speech.models.causal_grid import CausalGrid
from speech.models.enhance import EnhanceNet
from speech.models.separate import SeparateNet, masked
from speech.models.voice import VoiceNet
from speech.spectral_mixing import SpectralMixer
from speech.synth import generated_corpus

TASKS = ("enhance", "separate", "voice")
VALIDATION_SEED = 7_654_321
TRIAL_STEPS = 12
PLAN = "plan.json"
SPARE = 0.93
"""Share of the asked minutes that steps are planned for; the rest is validation and starting."""


class Numbers:
    """A batch is a number: its mixtures are made from it on the device, inside the step."""

    def __call__(self, count: int, generator: torch.Generator) -> int:
        return int(torch.randint(2**31, (), generator=generator))


def train(
    task: str,
    config: RunConfig,
    out: str | Path,
    data: Sequence[str | Path] = (),
    *,
    device: str = "cpu",
    start: str | Path | None = None,
    resume: bool | str = False,
    quiet: bool = False,
) -> Outcome:
    """Train into the run folder `out` on the corpora named, or on generated voices and noises.

    `resume`: whether a run is there to go on with; "auto" goes on if there is one.
    `start` are weights of the same network to go on from. The best weights end in `out/model.safetensors`.

    Raises:
        ConfigError: settings that contradict each other or the data.
        DataError: a corpus cannot be read.
    """
    check_folder(out, resume)
    place, began = torch.device(device), time.monotonic()
    model = build(task, config)
    if start is not None and isinstance(model, VoiceNet):
        start = begun(model, start)
    elif start is not None and isinstance(model, SeparateNet):
        start = grown(model, start)
    model = model.to(place)
    if place.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = True
    corpora, held = gather(data)
    mixer = mixer_of(task, corpora, config, place)
    check = Mixer(held, replace(config.mix, speed=0.0, clean=0.0), place)
    step = Learning(task, mixer, config.batch, replay=getattr(config, "replay", False))
    config = replace(config, loop=fitting(config.loop, model))
    config = planned(config, model, step, Path(out) / PLAN, began, resume)
    return run_loop(
        model,
        step,
        DrawnBatches(config.steps, config.batch, Numbers(), config.seed),
        config.loop,
        out,
        validate=Validation(task, check, max(8, min(64, config.batch))),
        score="loss",
        settings=asdict(config),
        seed=config.seed,
        card=describe(task, config, corpora),
        resume=resume,
        quiet=quiet,
        start=None if start is None else weights_file(start),
        began=began if config.minutes is None else None,  # a plan has taken the beginning off already
    )


def fitting(loop: LoopOptions, model: nn.Module) -> LoopOptions:
    """The loop without the groups of our defaults that a network of other parts has no parameters for."""
    names = [name for name, _ in model.named_parameters()]
    groups = tuple(
        group
        for group in loop.learner.groups
        if group.pattern not in MATRICES or any(fnmatchcase(name, group.pattern) for name in names)
    )
    return replace(loop, optimizer=replace(loop.learner, groups=groups))


def check_task(task: str) -> None:
    """One of ours.

    Raises:
        ConfigError: it is none.
    """
    if task not in TASKS:
        raise ConfigError(f"a task is one of {', '.join(TASKS)}; got {task!r}.")


def build(task: str, config: RunConfig) -> nn.Module:
    """The network of a task, from its settings and the seed.

    Raises:
        ConfigError: no such task.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if task == "enhance" and isinstance(config, EnhanceRun):
            return EnhanceNet(config.model)
        if task == "voice" and isinstance(config, VoiceRun):
            return VoiceNet(config.model, config.voice)
        if task == "separate" and isinstance(config, SeparateRun):
            return CausalGrid(config.grid) if config.network == "grid" else SeparateNet(config.model)
    raise ConfigError(f"a task is one of {', '.join(TASKS)} with its own settings; got {task!r}.")


class Learning:
    """The step of the loop: a number -> mixtures -> the network's loss."""

    def __init__(self, task: str, mixer: Mixer | SpectralMixer, batch: int, *, replay: bool = False) -> None:
        self.task, self.mixer, self.batch = task, mixer, batch
        self.replay = replay and mixer.device.type == "cuda"
        self.recorded: tuple[list[int], Any] | None = None  # where weights lay, and the loss as a graph

    def __call__(self, model: Any, number: int) -> dict[str, Tensor]:
        if isinstance(self.mixer, SpectralMixer):
            with torch.no_grad():
                mixture, talkers = self.mixer.separation(number, self.batch)
            return {"loss": self.loss_of(model)(mixture, talkers)}
        device = self.mixer.device.type
        with torch.no_grad(), torch.autocast(device, enabled=False):
            noisy, clean, *clip = one_voice(self.task, self.mixer, number, self.batch)
        estimate = model(noisy, *clip)
        with torch.autocast(device, enabled=False):
            return enhancement_loss(estimate.float(), clean)

    def loss_of(self, model: Any) -> Any:
        """(mixtures, talkers) -> loss, by launches that were recorded once if so asked."""
        if not self.replay:
            return SpectralLoss(model)
        places = [parameter.data_ptr() for parameter in model.parameters()]
        if self.recorded is None or self.recorded[0] != places:  # another network, or weights that were moved
            assert isinstance(self.mixer, SpectralMixer)
            example = self.mixer.separation(0, self.batch)
            with torch.no_grad(), torch.autocast("cuda", enabled=False):
                SpectralLoss(model)(*example)  # lays the weights as validation will want them
            enabled = torch.is_autocast_enabled("cuda")
            with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), enabled, cache_enabled=False):
                graph = torch.cuda.make_graphed_callables(SpectralLoss(model), example)
            self.recorded = [parameter.data_ptr() for parameter in model.parameters()], graph
        return self.recorded[1]


class SpectralLoss(nn.Module):
    """Mixtures without their constant part (B, T, F - 1, 2) and their talkers -> the loss of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, mixture: Tensor, talkers: Tensor) -> Tensor:
        return spectral_separation_loss(self.separated(self.network, mixture), talkers)

    @staticmethod
    def separated(model: Any, mixture: Tensor) -> Tensor:
        """Mixtures without their constant part (B, T, F - 1, 2) -> talkers (B, S, T, F - 1, 2)."""
        if isinstance(model, SeparateNet):
            return masked(model.masks(mixture, None)[0], mixture)
        tracks, _ = model.tracks(nn.functional.pad(torch.view_as_complex(mixture), (1, 0)))
        return torch.view_as_real(tracks[..., 1:])


def one_voice(task: str, mixer: Mixer, number: int, batch: int) -> tuple[Tensor, ...]:
    """Noisy and clean waves, and for a wanted voice a clip of it."""
    return mixer.wanted(number, batch) if task == "voice" else mixer.enhancement(number, batch)


def begun(model: VoiceNet, start: str | Path) -> str | Path | None:
    """Take over an enhancement network as the base of a network for voices; None: that was all of it.

    Raises:
        WeightsError: there is none, or it has other sizes.
    """
    tensors, card = load(find(start))
    if card.task != "enhance":
        return start
    load_into(model.base, tensors)
    return None


def grown(model: SeparateNet, start: str | Path) -> str | Path | None:
    """Take over a separation network of fewer blocks; the further ones begin as what changes nothing.

    None: that was all of it. Weights with as many blocks are left to the loop.

    Raises:
        WeightsError: it differs in more than the number of blocks.
    """
    tensors, card = load(find(start))
    known = {name.split(".")[1] for name in tensors if name.startswith("over.")}
    own = model.state_dict()
    further = {
        name for name in own if name.split(".")[0] in ("across", "over") and name.split(".")[1] not in known
    }
    if card.task != "separate" or not further:
        return start
    with torch.no_grad():
        for name in further:
            if ".out." in name:
                own[name].zero_()
    load_into(model, {**{name: own[name] for name in further}, **tensors})
    return None


def mixer_of(
    task: str, corpora: Sequence[Corpus], config: RunConfig, place: torch.device
) -> Mixer | SpectralMixer:
    """Who makes the mixtures of a task: waves for enhancement, spectra for separation."""
    if task == "separate":
        assert isinstance(config, SeparateRun)
        return SpectralMixer(corpora, config.mix, config.window, place)
    return Mixer(corpora, config.mix, place)


class Validation:
    """The same mixtures of held-out talkers and noises after every epoch."""

    def __init__(self, task: str, mixer: Mixer, batch: int, batches: int = 2) -> None:
        self.task, self.mixer, self.batch, self.batches = task, mixer, batch, batches

    def __call__(self, model: nn.Module) -> dict[str, float]:
        figures: dict[str, list[float]] = {}
        for number in range(self.batches):
            if self.task != "separate":
                noisy, clean, *clip = one_voice(self.task, self.mixer, VALIDATION_SEED + number, self.batch)
                estimate = model(noisy, *clip)
                values = {name: value.item() for name, value in enhancement_loss(estimate, clean).items()}
                values["si_sdr"] = si_sdr(estimate, clean).mean().item()
            else:
                mixture, sources = self.mixer.separation(VALIDATION_SEED + number, self.batch)
                estimate = model(mixture)
                values = {"loss": separation_loss(estimate, sources, mixture).item()}
                both = sources[:, 1].square().mean(-1) > 0
                pairs = si_sdr(estimate[both][:, :, None], sources[both][:, None])
                straight, crossed = pairs.diagonal(dim1=1, dim2=2), pairs.flip(1).diagonal(dim1=1, dim2=2)
                best = torch.maximum(straight.mean(-1), crossed.mean(-1)).mean()
                before = si_sdr(mixture[both][:, None].expand(-1, 2, -1), sources[both]).mean()
                values |= {"si_sdri": (best - before).item()}
            for name, value in values.items():
                figures.setdefault(name, []).append(value)
        return {name: sum(values) / len(values) for name, values in figures.items()}


def gather(data: Sequence[str | Path]) -> tuple[list[Corpus], list[Corpus]]:
    """Corpora to train on and corpora to validate on; generated voices where no file gives any."""
    corpora, held = read_corpora(data), read_corpora(data, "valid")
    if not any(corpus.speech for corpus in corpora):
        corpora.insert(0, generated_corpus(seed=0))
    if sum(len(corpus.speech) for corpus in held) < 2:
        held.insert(0, generated_corpus(seed=1, talkers=8, seconds=6.0))
    return corpora, held


def planned(
    config: RunConfig, model: nn.Module, step: Learning, plan: Path, began: float, resume: bool | str
) -> RunConfig:
    """Settings with as many epochs as fit into `minutes` from `began` on, measured on a copy of the network.

    The plan is kept beside the run, so that a resumed one follows the same.
    """
    if config.minutes is None:
        return config
    if resume and plan.exists():
        kept = json.loads(plan.read_text())
        loop = replace(config.loop, epochs=kept["epochs"], max_minutes=config.minutes)
        return replace(config, steps=kept["steps"], loop=loop)
    trial = copy.deepcopy(model).train()
    optimizers, device = build_optimizers(trial, config.loop), next(model.parameters()).device
    half = nullcontext()
    if config.loop.precision != "float32":
        half = torch.autocast(device.type, getattr(torch, config.loop.precision))
    started = 0.0
    for number in range(2 * TRIAL_STEPS):
        if number == TRIAL_STEPS:
            started = now(device)
        trial.zero_grad()
        with half:
            loss = step(trial, number)["loss"]
        loss.backward()
        if config.loop.clip is not None:
            nn.utils.clip_grad_norm_(trial.parameters(), config.loop.clip)
        for optimizer in optimizers:
            optimizer.step()
    pace = (now(device) - started) / TRIAL_STEPS
    left = max(1.0, 60 * config.minutes - (time.monotonic() - began))
    total = max(1, int(SPARE * left / pace))
    steps = min(config.steps, max(1, total // 4))
    epochs = max(1, total // steps)
    plan.parent.mkdir(parents=True, exist_ok=True)
    write_text(plan, json.dumps({"epochs": epochs, "steps": steps}))
    return replace(config, steps=steps, loop=replace(config.loop, epochs=epochs, max_minutes=left / 60))


def now(device: torch.device) -> float:
    """Seconds, after the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def weights_file(place: str | Path) -> Path:
    """A weights file, or the one inside a run folder."""
    place = Path(place)
    return place / "model.safetensors" if place.is_dir() else place


def describe(task: str, config: RunConfig, corpora: Sequence[Corpus]) -> Card:
    """What the weights are, in words."""
    parts = []
    for corpus in corpora:
        if corpus.speech:
            parts.append(f"{corpus.name}: {corpus.seconds / 60:.1f} min of {len(corpus.speech)} talkers")
        if corpus.noise:
            minutes = sum(len(voice.samples) for voice in corpus.noise) / 16000 / 60
            parts.append(f"{corpus.name}: {minutes:.1f} min of noise")
    if task != "separate":
        parts.append("generated noises")
    credits: list[Any] = sorted({credit for corpus in corpora for credit in corpus.credits})
    model: Any = getattr(config, "model")  # noqa: B009  (either task's)
    return Card(
        task=task,
        unit=model.unit,
        data="; ".join(parts),
        terms="of the corpora named; generated parts: none",
        extra={"rate": 16000, "credits": credits} if credits else {"rate": 16000},
    )
