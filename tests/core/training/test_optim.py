"""Parameter groups, optimisers, schedules, the order of batches, memory."""

import subprocess
import sys
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from core.errors import ConfigError
from core.training import ShuffledBatches, build_optimizer, parameter_groups
from core.training.batches import epoch_order, mix, to_device
from core.training.options import ScheduleOptions
from core.training.schedule import factor, momentum
from core.units.contract import Unit


class Decaying(Unit):
    """A unit with one parameter of every sort."""

    no_decay: ClassVar[tuple[str, ...]] = ("skip",)
    slow: ClassVar[tuple[str, ...]] = ("decay", "clock")

    def __init__(self) -> None:
        super().__init__(3, 4)
        self.weight = nn.Parameter(torch.ones(4, 3))
        self.bias = nn.Parameter(torch.ones(4))
        self.skip = nn.Parameter(torch.ones(4, 4))
        self.decay = nn.Parameter(torch.ones(4, 2))
        self.clock = nn.Linear(3, 4)


def test_groups_follow_what_units_declare_and_the_number_of_axes() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Decaying()), nn.LayerNorm(4))
    model[0].weight.requires_grad_(False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {group["name"]: group for group in parameter_groups(model, 0.1, 0.02, 0.5)}
    found = {name: [names[id(part)] for part in group["params"]] for name, group in groups.items()}
    assert found == {
        "decayed": ["1.0.weight"],
        "plain": ["0.bias", "1.0.bias", "1.0.skip", "2.weight", "2.bias"],
        "slow": ["1.0.decay", "1.0.clock.weight", "1.0.clock.bias"],
    }
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert rates == {"decayed": (0.1, 0.02), "plain": (0.1, 0.0), "slow": (0.05, 0.0)}


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_optimisers_go_downhill(name: str, dtype: torch.dtype) -> None:
    model = nn.Linear(3, 1, dtype=dtype)
    optimizer = build_optimizer(name, parameter_groups(model, 0.05, 0.0))

    def loss() -> Tensor:
        return model(torch.ones(2, 3, dtype=dtype)).abs().square().mean()

    before = loss().item()
    for _ in range(20):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.5 * before


def test_unknown_optimisers_and_schedules_list_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"no optimizer 'lion'; there are adadelta, .*, sparse_adam, or write"
    ):
        build_optimizer("lion", parameter_groups(nn.Linear(1, 1), 0.1, 0.0))
    with pytest.raises(ConfigError, match="no schedule 'square'; there are constant"):
        factor("square", 0, 10, 0.0)


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter to train"):
        build_optimizer("adam", parameter_groups(nn.Linear(1, 1).requires_grad_(False), 0.1, 0.0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ("cosine", [0.5, 1, 1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
        ("step", [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
    ],
)
def test_schedules_rise_over_the_warm_up_and_then_follow_their_formula(
    name: str, expected: list[float]
) -> None:
    assert [factor(name, step, 8, 0.25) for step in range(8)] == pytest.approx(expected)


@pytest.mark.parametrize(("name", "options"), [("sgd", {"momentum": 0.5}), ("adam", {}), ("adamw", {})])
def test_one_cycle_is_that_of_torch_with_its_momentum(name: str, options: dict[str, Any]) -> None:
    plan = ScheduleOptions("one_cycle", warmup=0.2)
    optimizer = build_optimizer(name, parameter_groups(nn.Linear(2, 2), 0.1, 0.0), options)
    published = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=50, pct_start=0.2)
    for step in range(50):
        group = optimizer.param_groups[0]
        assert 0.1 * factor(plan, step, 50) == pytest.approx(group["lr"], rel=1e-9)
        assert momentum(plan, step, 50) == pytest.approx(
            group["betas"][0] if "betas" in group else group["momentum"]
        )
        optimizer.step()
        if step < 49:
            published.step()


def test_one_cycle_takes_the_published_warm_up_unless_told_and_ends_where_told() -> None:
    heights = [factor("one_cycle", step, 100) for step in range(100)]
    assert heights.index(max(heights)) == 29
    plan = ScheduleOptions("one_cycle", warmup=0.1, start_factor=0.1, end_factor=0.5, momentum=None)
    heights = [factor(plan, step, 100) for step in range(100)]
    assert (heights[0], max(heights), heights[99]) == pytest.approx((0.1, 1.0, 0.5))
    assert momentum(plan, 3, 100) is None


def test_milestones_multiply_from_their_part_of_the_steps_on() -> None:
    plan = ScheduleOptions("step", warmup=0.0, milestones=((0.6, 0.3), (0.85, 0.3)))
    heights = [factor(plan, step, 20) for step in range(20)]
    assert heights == pytest.approx([1.0] * 12 + [0.3] * 5 + [0.09] * 3)
    assert min(factor(replace(plan, floor=0.2), step, 20) for step in range(20)) == 0.2


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_held_rate_falls_later_over_the_same_curve(name: Any) -> None:
    plan = ScheduleOptions(name, warmup=0.1, hold=0.3)
    heights = [factor(plan, step, 100) for step in range(100)]
    assert heights[9:41] == [1.0] * 32
    assert heights[40:] == pytest.approx([factor(name, step, 60, 0.0) for step in range(60)])
    with pytest.raises(ConfigError, match="hold is a fraction of all steps"):
        ScheduleOptions(name, hold=1.5)


def test_muon_takes_the_steps_of_torch_for_matrices_of_all_shapes() -> None:
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((12, 8), (12, 8), (5, 16), (6, 6))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    optimizer = build_optimizer("muon", [{"params": ours, "lr": 1e-2, "weight_decay": 0.1}])
    reference = torch.optim.Muon(theirs, 1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for own, other in zip(ours, theirs, strict=True):
            own.grad = torch.randn_like(own)
            other.grad = own.grad.clone()
        optimizer.step()
        reference.step()
    for own, other in zip(ours, theirs, strict=True):
        assert_close(own, other, rtol=0, atol=0)
    with pytest.raises(ValueError, match="muon refuses its options: Muon only supports 2D parameters"):
        build_optimizer("muon", [{"params": [nn.Parameter(torch.zeros(3))], "lr": 1e-2, "weight_decay": 0.0}])


@pytest.mark.parametrize("name", ["cosine", "linear"])
def test_a_floor_is_where_the_way_down_ends(name: Any) -> None:
    plan = ScheduleOptions(name, warmup=0.0, floor=0.25)
    heights = [factor(plan, step, 1000) for step in range(1000)]
    assert heights[0] == 1.0
    assert heights[-1] == pytest.approx(0.25, abs=1e-3)
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_schedules_of_short_runs_stay_within_bounds(name: str, total: int) -> None:
    assert all(0 < factor(name, step, total, 0.05) <= 1 for step in range(total))


def test_an_epoch_holds_every_example_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(50, 7, epoch) for epoch in range(3)]
    assert all(torch.equal(order.sort().values, torch.arange(50)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[1], epoch_order(50, 7, 1))


def test_an_epoch_can_be_entered_at_any_batch() -> None:
    batches = ShuffledBatches(23, 5, lambda rows, g: (rows, torch.rand(2, generator=g)), seed=1)
    whole = list(batches.epoch(2, 0, 1, 0))
    assert len(whole) == batches.count(1) == 4
    for start in range(5):
        rest = list(batches.epoch(2, 0, 1, start))
        assert len(rest) == 4 - start
        for (rows, noise), (expected_rows, expected_noise) in zip(rest, whole[start:], strict=True):
            assert torch.equal(rows, expected_rows)
            assert torch.equal(noise, expected_noise)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 8 needs as many examples; there are 5"):
        ShuffledBatches(5, 8, lambda rows, generator: rows, seed=1)


def test_seeds_of_near_numbers_are_unrelated() -> None:
    seeds = {
        mix(seed, epoch, batch, rank)
        for seed in range(3)
        for epoch in range(9)
        for batch in range(99)
        for rank in range(4)
    }
    assert len(seeds) == 3 * 9 * 99 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_batches_of_any_nesting_move_to_a_device() -> None:
    from dataclasses import dataclass
    from typing import NamedTuple

    class Pair(NamedTuple):
        x: Tensor
        name: str

    @dataclass(frozen=True)
    class Batch:
        x: Tensor
        parts: list[Any]

    one = torch.ones(2)
    moved = to_device({"a": (one, Pair(one, "n")), "b": Batch(one, [one, 3])}, torch.device("meta"))
    assert moved["a"][0].is_meta
    assert moved["a"][1].x.is_meta
    assert moved["a"][1].name == "n"
    assert moved["b"].x.is_meta
    assert moved["b"].parts[0].is_meta
    assert moved["b"].parts[1] == 3


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_memory_is_kept_for_the_next_tensor() -> None:
    # Counts the pages that are faulted in, which is what costs the time.
    script = """
import resource, torch
from core.training import reuse_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.add(a, a)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

a = torch.ones(1 << 22)
fresh = faults()
assert reuse_memory()
faults()
print(fresh, faults())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    fresh, reused = map(int, done.stdout.split())
    assert reused < 0.1 * fresh
