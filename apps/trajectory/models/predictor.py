"""Our predictor: any recurrent unit reads velocities, one linear layer answers all steps at once.

    h   = unit(features of v_1..v_T)                     last output
    o   = W gelu(W_1 h + b_1) + b
    u_k = v_T + g_k * sum_{j<=k} o_j,  g = sigmoid(..)   residual over constant velocity
    p_k = p_T + s dt sum_{j<=k} u_j                      s the recent speed, all of it in the heading frame

The gate g lets the network fall back to constant velocity where it knows no better. A `mixture` weighs this
path against simple ones (`apps.trajectory.mixture`), and its residual vanishes with the differences between
the velocities, so that an exact line goes on exactly. Beside the mean the network gives a covariance
(`gaussian`) or quantiles (`quantile`), both in the heading frame. With `mirror` the raw answers to a window
and to its mirror image are averaged before anything is made of them, so the symmetry is exact.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import core
from apps.trajectory.config import ModelConfig, WindowConfig
from apps.trajectory.features import (
    Anchor,
    feature_size,
    stream_features,
    stream_start,
    velocities,
    window_features,
)
from apps.trajectory.measures import (
    EVIDENCE,
    FAVOURS,
    FINER,
    FLOOR_M,
    NOISE_MARK,
    TILTS,
    VARIANCE_FLOOR,
    reflection,
)
from apps.trajectory.mixture import bent, candidates, evidence, finer, mixed
from apps.trajectory.models.forecast import Forecast

NETWORK_FIRST = 3.0
"""Logit of the network's own path before anything is learned: nine tenths."""


class CausalTransformer(nn.Module):
    """x (B, T, I) -> y (B, T, H): learned positions counted from the end, pre-norm layers."""

    def __init__(self, input_size: int, hidden: int, layers: int, heads: int, longest: int) -> None:
        super().__init__()
        self.embed = nn.Linear(input_size, hidden)
        self.position = nn.Parameter(torch.randn(longest, hidden) * 0.02)
        layer = nn.TransformerEncoderLayer(
            hidden, heads, 2 * hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.output_size = hidden

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        x = self.embed(x) + self.position[-x.shape[1] :]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1], device=x.device, dtype=x.dtype)
        return self.layers(x, mask=mask, is_causal=True), None


class Ball(NamedTuple):
    """What the size of a spread is made of beside its raw numbers."""

    size: Tensor
    """(B, K) metres: recent speed times time ahead, none of it on an exact line."""
    told: Tensor | None = None
    """(B, n) state and evidence, of a mixture."""
    marks: Tensor | None = None
    """(B, EVIDENCE)"""
    noise: Tensor | None = None
    """(B, 1) deviation per axis of the noise of the samples, metres."""


class Predictor(nn.Module):
    """Positions (B, T+1, D) -> Forecast of K steps; a stateful one also goes velocity by velocity."""

    def __init__(self, config: ModelConfig, window: WindowConfig) -> None:
        super().__init__()
        self.config, self.window = config, window
        self.dims, self.dt, self.history, self.horizon = (
            config.dims,
            window.dt,
            window.history,
            window.horizon,
        )
        width = feature_size(config.dims, stateful=config.stateful)
        if config.encoder == "transformer":
            self.encoder: Any = CausalTransformer(
                width, config.hidden, config.layers, config.heads, window.history - 1
            )
        else:
            self.encoder = core.stack(config.unit, width, config.hidden, layers=config.layers, residual=False)
        D, K = config.dims, window.horizon
        spread = {"point": 0, "gaussian": D * (D + 1) // 2, "quantile": 2 * D}[config.head]
        self.sizes = (K * D, K, K * spread)
        self.inner = nn.Linear(self.encoder.output_size, 2 * config.hidden)
        self.outer = nn.Linear(2 * config.hidden, sum(self.sizes))
        self.mixes = config.representation == "mixture" and not config.stateful
        self.mirrors = config.mirror and D in (2, 3) and not config.stateful
        if self.mixes:
            self.aside = nn.Linear(EVIDENCE, 2 * config.hidden, bias=False)
            self.favour = nn.Linear(2 * config.hidden, FAVOURS)
            self.tilt = nn.Linear(EVIDENCE, K)
            seen = EVIDENCE + FINER * config.fine
            self.wide = nn.Linear(self.encoder.output_size + seen, config.wide)
            self.widen = nn.Linear(config.wide, K)
        self.grains = self.mixes and config.grain and config.head == "gaussian"
        if self.grains:
            self.grain = nn.Linear(config.wide, K)
        with torch.no_grad():  # the first guess is constant velocity
            self.outer.weight[: K * D] *= 0.1
            self.outer.bias[: K * D] = 0
            if self.mixes:
                self.aside.weight.zero_()
                self.tilt.weight.zero_()
                self.tilt.bias.zero_()
                self.widen.weight.zero_()
                self.widen.bias.zero_()
                self.favour.weight.mul_(0.1)
                self.favour.bias.zero_()
                self.favour.bias[0] = NETWORK_FIRST
            if self.grains:
                self.grain.weight.zero_()
                self.grain.bias.zero_()
        order, sign = reflection(D, K, config.head)
        self.register_buffer("order", torch.from_numpy(order), persistent=False)
        self.register_buffer("sign", torch.from_numpy(sign), persistent=False)

    def forward(self, past: Tensor, through: Tensor | None = None, *, both: bool | None = None) -> Forecast:
        """past (B, T+1, D) in metres, at least two positions; in float64 when far from the origin.

        Args:
            through: (B, 2, 2, D) `mixture.lines` of all samples of a recorder that is faster than the window.
            both: average with the mirror image; None: as configured, except in training, where `augment`
                mirrors at half the price.

        Raises:
            ValueError: another number of coordinates.
        """
        self.check(past)
        if self.config.stateful:
            velocity = velocities(past, self.dt).to(self.outer.weight.dtype)
            y, anchors = self.stream(velocity)
            return self.read_out(y[:, -1], anchors[-1]).at(past[:, -1])
        return self.read_out(*self.encoded(past, through, both=both)).at(past[:, -1])

    def ball(self, past: Tensor, through: Tensor | None = None) -> tuple[Tensor, Tensor, Ball]:
        """Mean (B, K, D), metres, what the spread is made of: its raw numbers (B, K, n) and the rest.

        For learning the ball alone, see `balls`; arguments as in `forward`.
        """
        mean, raw, ball = self.say(*self.encoded(past, through, both=True))
        return mean.to(past) + past[:, -1:], raw, ball

    def encoded(self, past: Tensor, through: Tensor | None, *, both: bool | None) -> Any:
        """The arguments of `read_out` for windows; arguments as in `forward`."""
        past = past[:, -self.history :]
        velocity = velocities(past, self.dt).to(self.outer.weight.dtype)
        features, anchor = window_features(velocity, self.config.frame)
        y, _ = self.encoder(features)
        other = None
        if self.mirrors and (both or (both is None and not self.training)):
            other = self.encoder(features * self.seen_in_mirror(features))[0][:, -1]
        window = (past - past[:, -1:]).to(velocity) if self.mixes else None
        through = None if through is None else through.to(velocity)
        return y[:, -1], anchor, window, through, other

    def seen_in_mirror(self, features: Tensor) -> Tensor:
        """Signs (I,) of the features of a window's mirror image: left changes, all else stays."""
        sign = features.new_ones(features.shape[-1])
        sign[[1, self.dims + 1]] = -1
        return sign

    def initial_state(self, x: Tensor) -> Any:
        """State of a stream before its first velocity; x (B, ...) gives batch, device and dtype.

        Raises:
            ValueError: the model was trained on windows.
        """
        if not self.config.stateful:
            raise ValueError("this model was trained on windows; train with model.stateful=true to stream it")
        width = self.encoder.input_size
        return stream_start(x, self.dims), self.encoder.initial_state(x.new_zeros(x.shape[0], width))

    def step(self, velocity: Tensor, state: Any) -> tuple[Forecast, Any]:
        """One velocity (B, D) in m/s -> forecast that counts from the newest position, state.

        Raises:
            ValueError: another number of coordinates.
        """
        self.check(velocity)
        running, recurrent = state
        features, anchor, running = stream_features(velocity, running, self.config.frame, self.dt)
        y, recurrent = self.encoder.step(features, recurrent)
        return self.read_out(y, anchor), (running, recurrent)

    def check(self, x: Tensor) -> None:
        if x.shape[-1] != self.dims:  # a velocity of one coordinate would be spread over all axes
            raise ValueError(f"this model predicts {self.dims} coordinates, got shape {tuple(x.shape)}")

    def stream(self, velocity: Tensor) -> tuple[Tensor, list[Anchor]]:
        """A stream (B, T, D) at once: outputs of the encoder (B, T, H) and an anchor for each sample."""
        state, features, anchors = stream_start(velocity, self.dims), [], []
        for sample in velocity.unbind(1):
            seen, anchor, state = stream_features(sample, state, self.config.frame, self.dt)
            features.append(seen)
            anchors.append(anchor)
        y, _ = self.encoder(torch.stack(features, 1))
        return y, anchors

    def read_out(
        self,
        h: Tensor,
        anchor: Anchor,
        window: Tensor | None = None,
        through: Tensor | None = None,
        other: Tensor | None = None,
    ) -> Forecast:
        """Encoder output (B, H) and anchor -> forecast that counts from the newest position.

        Args:
            window: (B, T+1, D) positions counted from the newest, for a mixture.
            through: as in `forward`.
            other: (B, H) encoder output of the mirror images; None: one side is enough.
        """
        mean, raw, ball = self.say(h, anchor, window, through, other)
        return Forecast(mean, *self.uncertainty(raw, *self.sized(ball)), anchor.axes(self.dims))

    def say(
        self,
        h: Tensor,
        anchor: Anchor,
        window: Tensor | None = None,
        through: Tensor | None = None,
        other: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Ball]:
        """Mean (B, K, D) from the newest position, raw spread (B, K, n) and its size, as in `read_out`."""
        D, K = self.dims, self.horizon
        ball = Ball(anchor.scale[:, None] * self.ahead(h))
        answers, bend, pushed = None, 1.0, 0.0
        if window is not None:
            answers = candidates(window, self.dt, K, through)
            marks = evidence(window, self.dt, answers, anchor.scale)
            pushed = self.aside(marks)
            bend = bent(velocities(window, self.dt), anchor.scale)[:, None]
            told = [h if other is None else (h + other) / 2, marks]  # alike for the mirror image
            if self.config.fine:
                told.append(finer(window, self.dt, through, anchor.scale))
            noise = self.noise(marks, anchor.scale) if self.grains else None
            ball = Ball(ball.size * bend, torch.cat(told, -1), marks, noise)
        middle = F.gelu(self.inner(h) + pushed)
        raw = self.outer(middle)
        favour = self.favour(middle) if self.mixes else None
        if other is not None:
            mirrored = F.gelu(self.inner(other) + pushed)
            raw = (raw + self.outer(mirrored)[:, self.order] * self.sign) / 2
            favour = None if favour is None else (favour + self.favour(mirrored)) / 2
        steps, gate, spread = raw.split(self.sizes, -1)
        steps = steps.view(-1, K, D)
        if self.config.representation in ("residual_over_cv", "mixture"):
            fade = (torch.sigmoid(gate + 2) * bend)[..., None]
            local = (anchor.velocity[:, None] + fade * 0.3 * steps.cumsum(1)).cumsum(1) * self.dt
        elif self.config.representation == "velocity":
            local = steps.cumsum(1) * self.dt
        else:
            local = steps * self.ahead(h)[:, None]
        mean = anchor.restore(local)
        if answers is not None and favour is not None:
            mean = mixed(mean, answers, favour)
        return mean, spread.unflatten(-1, (K, self.sizes[2] // K)), ball

    def sized(self, ball: Ball) -> tuple[Tensor, Tensor | None]:
        """Metres that one of the raw spread stands for (B, K), and the noise of each step (B, K) or None."""
        if ball.told is None or ball.marks is None:
            return ball.size, None
        seen = F.gelu(self.wide(ball.told))
        reach = ball.size * (self.tilt(ball.marks) + self.widen(seen)).clamp(*TILTS).exp()
        return reach, None if ball.noise is None else ball.noise * F.softplus(self.grain(seen))

    def shape(self, raw: Tensor) -> Tensor:
        """Squared spread (B, K) of a Gaussian's raw outputs where one is a metre, without floor and noise."""
        wide, free = raw[..., : self.dims], raw[..., self.dims :]
        return F.softplus(wide - 1).square().sum(-1) + (0.3 * free).square().sum(-1)

    def noise(self, marks: Tensor, scale: Tensor) -> Tensor:
        """Deviation per axis of the noise of the samples, by the third differences, (B, 1) metres."""
        length = ((3 * marks[:, NOISE_MARK]).exp() * scale * self.dt - FLOOR_M).clamp_min(0)
        return (length / math.sqrt(20 * self.dims))[:, None]

    def ahead(self, like: Tensor) -> Tensor:
        """Seconds ahead of each step, (K,)."""
        return self.dt * torch.arange(1, self.horizon + 1, dtype=like.dtype, device=like.device)

    def uncertainty(
        self, raw: Tensor, reach: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Raw outputs (B, K, n), metres that one stands for (B, K), deviation of noise (B, K) ->
        spread (B, K), Cholesky factor or None, quantile offsets or None."""
        D = self.dims
        if self.config.head == "point":
            return reach, None, None
        if self.config.head == "quantile":
            width = F.softplus(raw - 1) * reach[..., None]
            low, high = width.split(D, -1)
            quantiles = torch.stack([-low, torch.zeros_like(low), high], -2)
            return (low + high).square().sum(-1).sqrt() / 2, None, quantiles
        factor = raw.new_zeros(*raw.shape[:-1], D, D)
        rows, columns = torch.tril_indices(D, D, -1, device=raw.device)
        factor[..., rows, columns] = raw[..., D:] * reach[..., None] * 0.3
        variance = F.softplus(raw[..., :D] - 1).square() * reach[..., None].square() + VARIANCE_FLOOR
        deviation = (variance if noise is None else variance + noise[..., None].square()).sqrt()
        factor = factor + torch.diag_embed(deviation)
        return factor.square().sum((-2, -1)).sqrt(), factor, None
