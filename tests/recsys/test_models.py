"""Networks: stepping equals reading, the future is not seen, draws repeat."""

import math

import numpy as np
import pytest
import torch

from core.state import from_bytes, tensors, to_bytes
from recsys.config import InterestConfig, PaperConfig
from recsys.features import steps_of
from recsys.loss import later_loss, slate_loss
from recsys.models.interest import InterestNetwork
from recsys.models.items import KAPPA
from recsys.models.slate import SlateNetwork
from recsys.models.user import UnitStates
from recsys.slates import FIRST
from tests.recsys.market import log, model

KINDS = ("interest", "filter", "gru", "linear", "markov", "lingru", "min_gru")


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_judged_from_the_ones_before(kind: str) -> None:
    network, steps = model(kind).network, steps_of(log().slates, slice(0, 8))
    whole = network.judge(steps)
    assert torch.allclose(whole.exp().sum(-1)[steps.used], torch.ones(()), atol=1e-4)
    assert torch.allclose(network.judge(steps.first(7)), whole[:, :7], atol=1e-5)
    filled = steps.filled()
    assert (whole.masked_fill(filled, -1e9).exp()[steps.used] < 1e-6).all()


@pytest.mark.parametrize("unit", ["gru", "lstm", "min_gru", "mamba2"])
def test_stepping_through_clicks_equals_reading_them(unit: str) -> None:
    torch.manual_seed(0)
    group = torch.from_numpy(log().slates.catalogue.group)
    network = InterestNetwork(InterestConfig(unit=unit, hidden=16, dims=4), group, 9).eval()
    steps = steps_of(log().slates, slice(0, 5))
    tables = network.items.tables()
    whole = network.encode(tables, steps)
    state = network.initial_state(5)
    for t in range(steps.slate.shape[1]):
        for own, read in zip(network.parts(state), whole, strict=True):
            torch.testing.assert_close(own, read[:, t], atol=1e-5, rtol=1e-4)
        state = network.advance(tables, state, one(steps, t))
    for own, read in zip(network.parts(state), whole, strict=True):
        torch.testing.assert_close(own, read[:, -1], atol=1e-5, rtol=1e-4)


def one(steps: object, t: int) -> object:
    from recsys.models.filter import one_step

    return one_step(steps, t)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("kind", ["interest", "filter"])
def test_a_state_of_fixed_size_goes_through_bytes(kind: str) -> None:
    network = model(kind).network
    steps, tables = steps_of(log().slates, slice(0, 2)), network.items.tables()
    state = network.initial_state(2)
    size = len(to_bytes(state))
    for t in range(3):
        state = network.advance(tables, from_bytes(to_bytes(state)), one(steps, t))
        assert len(to_bytes(state)) == size
    assert all(bool(torch.isfinite(part.float()).all()) for part in tensors(state))


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_is_repeatable_and_temperature_zero_is_the_mean(kind: str) -> None:
    network, steps = model(kind).network, steps_of(log().slates, slice(0, 3)).first(5)

    def drawn(seed: int, temperature: float) -> torch.Tensor:
        return network.rank(steps, network.draw(torch.Generator().manual_seed(seed), temperature))

    assert torch.equal(drawn(1, 1.0), drawn(1, 1.0))
    assert not torch.allclose(drawn(1, 1.0), drawn(2, 1.0))
    assert torch.allclose(drawn(1, 0.0), network.rank(steps), atol=1e-6)


def test_what_is_shown_later_does_not_move_the_recommendation() -> None:
    network, steps = model().network, steps_of(log().slates, slice(0, 4))
    short = steps.first(5)
    assert torch.allclose(network.rank(short), network.rank(short.rows([0, 1, 2, 3])))
    h, traces, groups = network.encode(network.items.tables(), steps)
    again = network.encode(network.items.tables(), short)
    for whole, part in zip((h, traces, groups), again, strict=True):
        torch.testing.assert_close(whole[:, 5], part[:, 5], atol=1e-6, rtol=1e-5)


def test_own_clicks_and_offers_are_taken_out_of_the_counts_they_are_in() -> None:
    network = model().network
    steps = steps_of(log().slates, slice(0, 1))
    state = tuple(part[:, 5] for part in network.encode(network.items.tables(), steps))
    item = int(steps.click[steps.click >= 3][0])
    none, own = torch.zeros(1, len(network.clicked)), torch.zeros(1, len(network.clicked))
    own[0, item] = network.clicked[item]
    with_own, without = network.item_log_probs(state), network.item_log_probs(state, (own, none))
    assert without[0, item] < with_own[0, item]
    assert torch.allclose(without.exp().sum(1), torch.ones(1), atol=1e-4)
    own[0, item] = network.offered[item]
    assert own[0, item] > 0
    assert network.item_log_probs(state, (none, own))[0, item] < with_own[0, item]


def test_what_is_offered_is_a_distribution_over_items() -> None:
    network = model().network
    steps = steps_of(log().slates, slice(0, 3))
    tables = network.items.tables()
    h, traces, _ = network.encode(tables, steps)
    chances = network.offer_log_probs(tables, h, traces).exp()
    torch.testing.assert_close(chances.sum(-1), torch.ones(chances.shape[:-1]), atol=1e-4, rtol=0)
    shown = steps.offered.sum((1, 2))
    assert int(shown.sum()) == int((steps.lengths - 1).clamp_min(0)[steps.kind == 2].sum())


def test_the_posterior_noise_is_one_draw_for_clicks_and_scores() -> None:
    network = model().network
    noise = network.items.noise(torch.Generator().manual_seed(3))
    drawn, means = network.items.tables(noise), network.items.tables(moment=True)
    assert means.variance is not None
    assert bool((means.variance > 0).all())
    spread, quality = network.items.scales()
    torch.testing.assert_close(drawn.v - means.v, spread * noise[:, :-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(drawn.q - means.q, quality * noise[:, -1], atol=1e-5, rtol=1e-4)


def test_the_kl_is_the_gaussian_one() -> None:
    items = model().network.items
    own = torch.distributions.Normal(items.mean[3:], items.log_scale[3:].exp())
    prior = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    wanted = torch.distributions.kl_divergence(own, prior).sum()
    torch.testing.assert_close(items.divergence(), wanted, rtol=1e-4, atol=1e-3)


def test_losses_count_what_they_say() -> None:
    steps = steps_of(log().slates, slice(0, 6))
    even = torch.full(steps.slate.shape, 0.0).masked_fill(~steps.filled(), -1e9).log_softmax(-1)
    counted = steps.lengths[steps.counted].float()
    torch.testing.assert_close(slate_loss(even, steps), counted.log().mean())
    flat = torch.full((6, 1, len(log().slates.catalogue)), -math.log(7.0))
    torch.testing.assert_close(later_loss(flat, steps, torch.full((6, 1), 3)), torch.tensor(math.log(7.0)))


def test_groups_are_the_flat_model_when_switched_off() -> None:
    group = torch.from_numpy(log().slates.catalogue.group)
    flat = InterestNetwork(InterestConfig(groups=False, dims=4), group, 9)
    assert len(flat.items.centre) == 1
    assert len(SlateNetwork(PaperConfig(groups=False, dims=4), group, 9).posterior.mean["groupvec"]) == 1


def test_a_unit_as_user_model_keeps_its_state_on_no_click() -> None:
    torch.manual_seed(0)
    states = UnitStates("min_gru", 4, 4)
    v, clicked = (
        torch.randn(2, 6, 4),
        torch.tensor([[1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 0, 0]], dtype=torch.bool),
    )
    z = states(v, clicked, torch.randn(2, 4))
    assert torch.equal(z[0, 2], z[0, 3])
    assert torch.equal(z[1, 0], z[1, 2])
    assert not torch.allclose(z[0, 3], z[0, 4])


def test_all_item_likelihood_puts_the_click_in_slot_one() -> None:
    network, steps = model("linear").network, steps_of(log().slates, slice(0, 6))
    judged = network.against_all(steps, torch.Generator().manual_seed(0))
    clicked = (steps.click >= 3) & steps.used
    assert torch.equal(judged.slate[..., 1][clicked], steps.click[clicked])
    assert torch.equal(judged.click_idx, clicked.long())
    assert (judged.lengths[steps.used] == steps.slate.shape[-1]).all()


def test_more_particles_say_the_same_with_less_noise() -> None:
    from recsys.models.filter import Dice

    network, steps = model("filter").network, steps_of(log().slates, slice(0, 6))
    tables = network.items.tables()

    def likelihoods(particles: int) -> np.ndarray:
        found = []
        for seed in range(6):
            _, slots, _ = network.run(tables, steps, particles, Dice(seed))
            found.append(float(slate_loss(slots, steps)))
        return np.array(found)

    few, many = likelihoods(8), likelihoods(128)
    assert many.std() < few.std()
    assert abs(many.mean() - few.mean()) < 4 * few.std()


def test_groups_have_a_posterior_of_low_rank_and_diagonal_when_asked() -> None:
    group = torch.from_numpy(log().slates.catalogue.group)
    torch.manual_seed(3)
    table = InterestNetwork(InterestConfig(dims=4, rank=2), group, 9).items
    size = table.centre.numel()
    factor = table.group_factor.flatten(0, 1)
    whole = torch.diag((2 * table.group_scale).exp().flatten()) + factor @ factor.T
    own = torch.distributions.MultivariateNormal(table.centre.flatten(), whole)
    prior = torch.distributions.MultivariateNormal(torch.zeros(size), KAPPA**2 * torch.eye(size))
    wanted = torch.distributions.kl_divergence(own, prior)
    torch.testing.assert_close(table.group_divergence(), wanted, rtol=1e-3, atol=1e-2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        table.log_scale.fill_(-20)  # the items stand still in their groups
        drawn = torch.stack([table.tables(table.noise(generator)).v[FIRST:] for _ in range(3000)])
    first = int(group[FIRST])
    spread = (2 * table.group_scale[first]).exp() + table.group_factor[first].square().sum(-1)
    torch.testing.assert_close(drawn[:, 0].var(0), spread, rtol=0.1, atol=1e-5)
    assert InterestNetwork(InterestConfig(dims=4), group, 9).items.noise_shape == (len(group), 5)
