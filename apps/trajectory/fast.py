"""The predictor as one compiled call, for live use: positions in, prediction out, no torch anywhere.

Same mathematics as `models.predictor.Predictor` with a GRU encoder; eager torch spends its time between the
operators of so small a network, and its import costs more than a stream. `FastEngine` serves both modes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apps.trajectory.config import ModelConfig, WindowConfig
from apps.trajectory.conformal import Calibration
from apps.trajectory.dims import history_of, position_of
from apps.trajectory.fast_mixture import answer_simply, evidence_of, finer_of, lines_of, mix
from apps.trajectory.measures import (
    CANDIDATES,
    EVIDENCE,
    FINER,
    FLOOR_M,
    HEADING_MEMORY_S,
    NOISE_MARK,
    SPEED_FLOOR,
    STREAM_MEMORY_S,
    TILTS,
    VARIANCE_FLOOR,
    reflection,
)
from apps.trajectory.prediction import Prediction
from core.kernels.jit import compiled
from core.streaming.gru import GRUStream
from core.streaming.products import add_product, gelu_layer

RESIDUAL, VELOCITY, POSITION = 0, 1, 2
POINT, GAUSSIAN, QUANTILE = 0, 1, 2
REPRESENTATIONS = {
    "mixture": RESIDUAL,
    "residual_over_cv": RESIDUAL,
    "velocity": VELOCITY,
    "position_relative": POSITION,
}
HEADS = {"point": POINT, "gaussian": GAUSSIAN, "quantile": QUANTILE}


@compiled
def set_heading(x: Any, y: Any, turn: Any) -> None:
    """turn (2,) = cosine and sine of the direction (x, y); along x when it does not move."""
    length = math.sqrt(x * x + y * y)
    turn[0] = 1.0
    turn[1] = 0.0
    if length > 1e-6:
        turn[0] = x / length
        turn[1] = y / length


@compiled
def window_input(past: Any, dt: Any, yaw: Any, tokens: Any, turn: Any, last: Any) -> Any:
    """Features of a window (T + 1, D) into tokens (T, I or more), heading, last velocity; returns speed."""
    time = past.shape[0] - 1
    dims = past.shape[1]
    if yaw:
        set_heading(past[time, 0] - past[time - 1, 0], past[time, 1] - past[time - 1, 1], turn)
    else:
        turn[0] = 1.0
        turn[1] = 0.0
    c, s = turn[0], turn[1]
    power = 0.0
    for t in range(time):
        for d in range(dims):
            v = (past[t + 1, d] - past[t, d]) / dt
            tokens[t, d] = v
            power += v * v
        x, y = tokens[t, 0], tokens[t, 1]
        tokens[t, 0] = c * x + s * y
        tokens[t, 1] = c * y - s * x
    scale = math.sqrt(power / time + SPEED_FLOOR * SPEED_FLOOR)
    level = math.log(scale)
    for t in range(time):
        square = 0.0
        for d in range(dims):
            tokens[t, d] /= scale
            square += tokens[t, d] * tokens[t, d]
            tokens[t, dims + d] = 3 * (tokens[t, d] - tokens[t - 1, d]) if t else 0.0
        tokens[t, 2 * dims] = level
        tokens[t, 2 * dims + 1] = math.sqrt(square) - 1
    for d in range(dims):
        last[d] = tokens[time - 1, d]
    return scale


@compiled
def stream_input(velocity: Any, running: Any, dt: Any, yaw: Any, token: Any, turn: Any, last: Any) -> Any:
    """Features of one velocity (D,) into token (1, I or more); running averages in place; returns the speed.

    running: last velocity (D), smoothed velocity (D), mean squared speed, samples so far.
    """
    dims = velocity.shape[0]
    keep_heading, keep_speed = math.exp(-dt / HEADING_MEMORY_S), math.exp(-dt / STREAM_MEMORY_S)
    before, smooth = running[:dims], running[dims : 2 * dims]
    count = running[2 * dims + 1] + 1
    old = np.empty(2, np.float64)
    set_heading(smooth[0], smooth[1], old)
    power = 0.0
    for d in range(dims):
        smooth[d] = keep_heading * smooth[d] + (1 - keep_heading) * velocity[d]
        power += velocity[d] * velocity[d]
    running[2 * dims] = keep_speed * running[2 * dims] + (1 - keep_speed) * power
    scale = math.sqrt(running[2 * dims] / (1 - keep_speed**count) + SPEED_FLOOR * SPEED_FLOOR)
    turn[0] = 1.0
    turn[1] = 0.0
    turned_c, turned_s = 1.0, 0.0
    if yaw:
        set_heading(smooth[0], smooth[1], turn)
        if count > 1:
            turned_c = old[0] * turn[0] + old[1] * turn[1]
            turned_s = old[0] * turn[1] - old[1] * turn[0]
    c, s = turn[0], turn[1]
    square = 0.0
    for d in range(dims):
        token[0, d] = velocity[d] / scale
        token[0, dims + d] = 3 * (velocity[d] - before[d]) / scale if count > 1 else 0.0
    for first in (0, dims):
        x, y = token[0, first], token[0, first + 1]
        token[0, first] = c * x + s * y
        token[0, first + 1] = c * y - s * x
    for d in range(dims):
        square += token[0, d] * token[0, d]
        last[d] = token[0, d]
        before[d] = velocity[d]
    token[0, 2 * dims] = math.log(scale)
    token[0, 2 * dims + 1] = math.sqrt(square) - 1
    token[0, 2 * dims + 2] = turned_c - 1
    token[0, 2 * dims + 3] = turned_s
    running[2 * dims + 1] = count
    return scale


@compiled
def softplus(x: Any) -> Any:
    return x if x > 20 else math.log1p(math.exp(x))


@compiled
def read_out(
    raw: Any, form: Any, kind: Any, dt: Any, turn: Any, scale: Any, last: Any, bend: Any, reaches: Any,
    noise: Any, anchor: Any, mean: Any, spread: Any, shape: Any,
) -> None:  # fmt: skip
    """The head's answer (K D + K + shape,) -> mean (K, D) metres, spread (K,) and shape.

    bend: how far the network may leave constant velocity; reaches (K,): metres that one of its spread is.
    noise (K,): deviation per axis that the noise of the samples adds.
    shape is (K, D, D): the covariance in the world's axes, or in its rows 0 and 1 the offsets of the 10 and
    90 % quantiles along the heading's axes.
    """
    steps, dims = mean.shape
    gates, tail = raw[steps * dims : steps * dims + steps], raw[steps * dims + steps :]
    total = np.zeros(dims)
    place = np.zeros(dims)
    factor = np.zeros((dims, dims))
    turned = np.zeros((dims, dims))
    c, s = turn[0], turn[1]
    for k in range(steps):
        fade = 0.3 * bend / (1 + math.exp(-(gates[k] + 2)))
        for d in range(dims):
            total[d] += raw[k * dims + d]
            if form == RESIDUAL:
                place[d] += (last[d] + fade * total[d]) * dt
            elif form == VELOCITY:
                place[d] += raw[k * dims + d] * dt
            else:
                place[d] = raw[k * dims + d] * dt * (k + 1)
        mean[k, 0] = anchor[0] + scale * (c * place[0] - s * place[1])
        mean[k, 1] = anchor[1] + scale * (s * place[0] + c * place[1])
        for d in range(2, dims):
            mean[k, d] = anchor[d] + scale * place[d]
        reach = reaches[k]
        if kind == POINT:
            spread[k] = reach
            continue
        square = 0.0
        if kind == QUANTILE:
            at = k * 2 * dims
            for d in range(dims):
                shape[k, 0, d] = -softplus(tail[at + d] - 1) * reach
                shape[k, 1, d] = softplus(tail[at + dims + d] - 1) * reach
                square += (shape[k, 1, d] - shape[k, 0, d]) ** 2
            spread[k] = math.sqrt(square) / 2
            continue
        at = k * (dims * (dims + 1) // 2)
        free = at + dims
        for i in range(dims):
            wide = softplus(tail[at + i] - 1) * reach
            factor[i, i] = math.sqrt(wide * wide + VARIANCE_FLOOR + noise[k] * noise[k])
            for j in range(i):
                factor[i, j] = tail[free] * reach * 0.3
                free += 1
            for j in range(i + 1):
                square += factor[i, j] ** 2
        spread[k] = math.sqrt(square)
        for j in range(dims):
            turned[0, j] = c * factor[0, j] - s * factor[1, j]
            turned[1, j] = s * factor[0, j] + c * factor[1, j]
            for i in range(2, dims):
                turned[i, j] = factor[i, j]
        for i in range(dims):
            for j in range(dims):
                shape[k, i, j] = 0.0
                for m in range(dims):
                    shape[k, i, j] += turned[i, m] * turned[j, m]


@dataclass(frozen=True)
class Network:
    """A `Predictor` as plain arrays under the names of its parameters."""

    model: ModelConfig
    window: WindowConfig
    tensors: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, predictor: Any) -> "Network":
        """From the module in torch."""
        arrays = {
            name: value.detach().float().cpu().numpy() for name, value in predictor.state_dict().items()
        }
        return cls(predictor.config, predictor.window, arrays)


class FastEngine:
    """`Predictor` for one track at a time, as the stream's engine.

    Raises:
        ValueError: the predictor's encoder is not a GRU, or it has a shape that the compiled call lacks.
    """

    def __init__(self, predictor: Any, calibration: Calibration | None = None) -> None:
        network = predictor if isinstance(predictor, Network) else Network.of(predictor)
        config, window, tensors = network.model, network.window, network.tensors
        if config.encoder != "recurrent" or config.unit != "gru":
            raise ValueError("the compiled call needs a recurrent encoder of reset-after GRUs")
        self.gru = GRUStream.of_arrays(tensors, "encoder.units", config.layers)
        self.dt, self.history = window.dt, window.history
        self.horizon, self.dims = window.horizon, config.dims
        self.stateful, self.shortest, self.follows = config.stateful, 4, True
        self.yaw = config.frame == "yaw"
        self.form, self.kind = REPRESENTATIONS[config.representation], HEADS[config.head]
        self.mixes = config.representation == "mixture" and not config.stateful
        self.mirrors = config.mirror and config.dims in (2, 3) and not config.stateful

        def layer(name: str) -> tuple[np.ndarray, np.ndarray]:
            weight = np.ascontiguousarray(tensors[f"{name}.weight"].T, np.float32)
            bias = tensors.get(f"{name}.bias", np.zeros(weight.shape[1], np.float32))
            return weight, np.ascontiguousarray(bias, np.float32)

        self.inner, self.outer = layer("inner"), layer("outer")
        if self.mixes:
            self.aside, self.favour, self.tilt = layer("aside"), layer("favour"), layer("tilt")
            self.wide, self.widen = layer("wide"), layer("widen")
            self.grain = layer("grain") if "grain.weight" in tensors else None
        self.order, self.sign = reflection(self.dims, self.horizon, config.head)
        self.ahead = self.dt * np.arange(1, self.horizon + 1)
        self.silent = np.zeros(self.horizon)
        self.calibration = calibration
        self.factor = None if calibration is None else calibration.factor(0.1)
        self.tokens, self.seen = self.gru.tokens(self.history), self.gru.tokens(self.history)
        self.turn, self.last = np.zeros(2), np.zeros(self.dims)
        self.h = self.gru.initial_state()
        self.told = np.zeros(EVIDENCE + FINER * config.fine, np.float32)
        self.marks, self.fine = self.told[:EVIDENCE], self.told[EVIDENCE:]
        self.lines, self.drawn = np.zeros((2, 2, self.dims)), np.zeros((2, 2, self.dims))
        self.answers = np.zeros((CANDIDATES, self.horizon, self.dims))

    def window(
        self, past: np.ndarray, step_s: float | None = None, through: np.ndarray | None = None
    ) -> Prediction:
        """past (T, D) metres, the newest `history` of them are read -> prediction.

        Args:
            step_s: seconds between the positions and of the answer's steps; None: the model's own dt.
            through: (2, 2, D) ends and slopes of the lines through all samples of a faster recorder.

        Raises:
            DataError: fewer than two positions, or of another number of coordinates than the model's.
        """
        past = history_of(past, self.dims, None if self.stateful else self.history)
        anchor, shrink = past[-1], 1.0 if step_s is None else self.dt / step_s
        if self.stateful:
            past = past if shrink == 1.0 else (past - anchor) * shrink
            state = self.begin(past[0])
            for position in past[1:]:
                state = self.step(state, position)
            answer = self.forecast(state)
            assert answer is not None
            return answer if shrink == 1.0 else self.placed(answer, anchor, shrink)
        if not self.mixes and shrink == 1.0:
            rel = past  # to the last digit as the network in torch sees it
        else:
            rel = (past - anchor) * shrink
        time = len(past) - 1
        tokens = self.tokens[:time]
        scale = window_input(rel, self.dt, self.yaw, tokens, self.turn, self.last)
        if self.mirrors:
            seen = self.seen[:time]
            seen[:] = tokens
            seen[:, 1] *= -1
            seen[:, self.dims + 1] *= -1
        self.h[:] = 0
        h = self.gru.advance(tokens, self.h)[-1]
        other = None
        if self.mirrors:
            self.h[:] = 0
            other = self.gru.advance(self.seen[:time], self.h)[-1]
        bend, reach, noise, pushed = 1.0, scale * self.ahead, self.silent, self.inner[1]
        if self.mixes:
            lines_of(rel, time + 1, self.drawn)
            self.lines[:] = self.drawn if through is None else through * shrink
            if len(self.fine):
                finer_of(self.lines, self.drawn, self.dt, scale, self.fine)
            answer_simply(rel, time + 1, self.dt, self.lines, self.answers)
            bend = evidence_of(rel, self.dt, self.answers, scale, self.marks)
            pushed = pushed.copy()
            add_product(self.marks, self.aside[0], pushed)
            tilt = self.tilt[1] + self.widen[1]
            add_product(self.marks, self.tilt[0], tilt)
            state = h if other is None else (h + other) / np.float32(2)
            hidden = gelu_layer(np.concatenate((state, self.told)), *self.wide)
            add_product(hidden, self.widen[0], tilt)
            if self.grain is not None:
                noise = self.noise_of(hidden, scale)
            reach = reach * bend * np.exp(np.clip(tilt, *TILTS))
        raw, favour = self.raw_of(gelu_layer(h, self.inner[0], pushed))
        if other is not None:
            turned, liked = self.raw_of(gelu_layer(other, self.inner[0], pushed))
            raw = (raw + turned[self.order] * self.sign) / 2
            favour = None if favour is None or liked is None else (favour + liked) / 2
        origin = np.zeros(self.dims) if self.mixes else anchor
        found = self.answer(raw, origin, self.turn, scale, self.last, bend, reach, noise)
        if favour is not None:
            mix(found.mean, found.anchor, self.answers, favour)
        return found if not self.mixes and shrink == 1.0 else self.placed(found, anchor, shrink)

    def noise_of(self, hidden: np.ndarray, scale: float) -> np.ndarray:
        """Deviation per axis that the noise of the samples adds at each step, (K,) metres."""
        assert self.grain is not None
        shares = self.grain[1].copy()
        add_product(hidden, self.grain[0], shares)
        length = math.exp(3 * self.marks[NOISE_MARK]) * scale * self.dt - FLOOR_M
        return max(length, 0.0) / math.sqrt(20 * self.dims) * np.logaddexp(0.0, shares.astype(np.float64))

    def raw_of(self, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What the read-out says to its hidden layer, and the logits of a mixture."""
        raw, favour = self.outer[1].copy(), None
        add_product(middle, self.outer[0], raw)
        if self.mixes:
            favour = self.favour[1].copy()
            add_product(middle, self.favour[0], favour)
        return raw, favour

    def placed(self, found: Prediction, anchor: np.ndarray, shrink: float) -> Prediction:
        """A prediction from the origin in shrunken lengths -> from the anchor in metres."""
        grow = 1 / shrink
        return replace(
            found,
            ahead_s=found.ahead_s * grow,
            anchor=anchor,
            mean=(found.mean - found.anchor) * grow + anchor,
            covariance=None if found.covariance is None else found.covariance * grow**2,
            quantiles=None if found.quantiles is None else found.quantiles * grow,
            radius=None if found.radius is None else found.radius * grow,
        )

    def begin(self, position: np.ndarray) -> Any:
        """State of a track that starts here.

        Raises:
            ValueError: the model was trained on windows.
            DataError: the position has another number of coordinates than the model.
        """
        position = position_of(position, self.dims)
        if not self.stateful:
            raise ValueError("this model was trained on windows; train with model.stateful=true to stream it")
        return (position, np.zeros(2 * self.dims + 2), self.gru.initial_state(), None)

    def step(self, state: Any, position: np.ndarray) -> Any:
        """State after the next position, dt later.

        Raises:
            DataError: the position has another number of coordinates than the model.
            ValueError: the state is one of another model.
        """
        position = position_of(position, self.dims)
        before, running, hidden, _ = self.own(state)
        running, hidden = running.copy(), hidden.copy()
        token = self.gru.tokens(1)
        turn, last = np.empty(2), np.empty(self.dims)
        velocity = (position - before) / self.dt
        scale = stream_input(velocity, running, self.dt, self.yaw, token, turn, last)
        self.gru.advance(token, hidden)
        return (position, running, hidden, (turn, scale, last))

    def own(self, state: Any) -> Any:
        """The state, if its arrays are as long as the compiled calls take them to be."""
        position, running, hidden, _ = state
        lengths = len(position), len(running), hidden.shape
        expected = self.dims, 2 * self.dims + 2, self.h.shape
        if lengths != expected:
            raise ValueError(f"this model's state has the sizes {expected}, got {lengths}")
        return state

    def forecast(self, state: Any) -> Prediction | None:
        """Prediction from a carried state, from the third position on."""
        position, running, hidden, seen = self.own(state)
        if seen is None or running[-1] < 2:
            return None
        turn, scale, last = seen
        raw, _ = self.raw_of(gelu_layer(hidden[-1], *self.inner))
        return self.answer(raw, position, turn, scale, last, 1.0, scale * self.ahead, self.silent)

    def answer(
        self,
        raw: np.ndarray,
        anchor: np.ndarray,
        turn: np.ndarray,
        scale: float,
        last: np.ndarray,
        bend: float,
        reach: np.ndarray,
        noise: np.ndarray,
    ) -> Prediction:
        """The read-out's numbers as a prediction from the anchor; arguments as in `read_out`."""
        mean, spread = np.empty((self.horizon, self.dims)), np.empty(self.horizon)
        shape = np.zeros((self.horizon, self.dims, self.dims))
        read_out(
            raw, self.form, self.kind, self.dt, turn, scale, last, bend, reach, noise, anchor,
            mean, spread, shape,
        )  # fmt: skip
        covariance = quantiles = axes = None
        if self.kind == GAUSSIAN:
            covariance = shape
        elif self.kind == QUANTILE:
            axes = np.eye(self.dims)
            axes[:2, :2] = [[turn[0], turn[1]], [-turn[1], turn[0]]]
            quantiles = np.stack([shape[:, 0], np.zeros_like(mean), shape[:, 1]], 1)
        radius = None if self.factor is None else self.factor * spread
        return Prediction(0.0, self.ahead, anchor, mean, covariance, quantiles, axes, radius)
