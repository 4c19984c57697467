"""The numbers of the published code: slate model, next-item models, losses, metrics, off-policy estimates."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from core.metrics.ranking import at_ranks, at_relevance, rank_of
from recsys import offline
from recsys.config import PaperConfig
from recsys.features import Steps
from recsys.models.next import losses
from recsys.models.next.esasrec import ESASRec
from recsys.models.next.fmlp import FMLPRec
from recsys.models.next.gru4rec import GRU4Rec
from recsys.models.next.gsasrec import GSASRec
from recsys.models.next.hstu import HSTU
from recsys.models.next.sasrec import SASRec
from recsys.models.slate import SlateNetwork
from recsys.models.variational import hierarchy_divergence
from recsys.policies.slates import in_slate, top
from recsys.slates import FIRST
from tests.golden import Entry, entries

Check = Callable[[Entry], None]
CHECKS: dict[str, Check] = {}


def covers(prefix: str) -> Callable[[Check], Check]:
    """Register a check for entries whose file name starts with this."""

    def register(check: Check) -> Check:
        CHECKS[prefix] = check
        return check

    return register


def check_of(entry: Entry) -> Check:
    fitting = [prefix for prefix in CHECKS if entry.file.startswith(prefix)]
    assert fitting, f"nothing here computes {entry.key!r} ({entry.file})"
    return CHECKS[max(fitting, key=len)]


def tensors(entry: Entry) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in entry.arrays().items()}


def close(ours: Tensor | float, expected: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    found = torch.as_tensor(ours).detach().double()
    torch.testing.assert_close(found, expected.double(), rtol=rtol, atol=atol, check_dtype=False)


def near(ours: float, expected: float) -> None:
    """Off-policy estimates: float64 throughout."""
    assert ours == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("entry", entries("recsys", "recsys"), ids=str)
def test_golden_entry(entry: Entry) -> None:
    check_of(entry)(entry)


def site(name: str) -> str:
    """Site of the published code -> ours."""
    last = name.removeprefix("model.").removesuffix(".weight").split(".")[-1]
    return "h0" if last == "h0-batch" else last


@covers("eide_")
def slate_model(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    config = PaperConfig(
        user=args["user_model_module"],
        dims=args["item_dim"],
        score=args["dist"],
        groups=args["item_model_module"] == "hier",
        prior_group=args["prior_groupvec_scale"],
        prior_spread=args["prior_groupscale_scale"],
        prior_user=args["prior_userinit_scale"],
        prior_bias=args["prior_bias_scale"],
        prior_mult=float(args["prior_softmax_mult_scale"]),
        decay=args["h0_amort_decayfactor"],
        prior_temperature=args["prior_temperature"],
        likelihood_temperature=args["likelihood_temperature"],
        compat=True,
    )
    network = SlateNetwork(config, a["item_group"], args["maxlen_action"])
    for name in a:
        if name.startswith("q/") and name.endswith("-mean"):
            network.posterior.put(site(name[2:-5]), a[name], a[name.removesuffix("mean") + "scale"])
    with torch.no_grad():
        network.log_spread.copy_(a["q/h0-amort-scalefactor"].log())
    draw = {site(name[5:]): value for name, value in a.items() if name.startswith("draw/")}
    h0 = draw.pop("h0")
    slate, click = a["batch/action"].long(), a["batch/click"].long()
    steps = Steps(
        slate,
        a["batch/click_idx"].long(),
        (slate > 0).sum(-1),
        a["batch/interaction_type"].long(),
        (click != 0) & (click != 2),
    )
    learned = a["batch/mask_type"] == 1
    z = network.states(draw, click, h0)
    close(z, a["out/zt"])
    logits = network.logits(draw, z[:, :-1], steps)
    close(logits, a["out/score"])
    close(network.step_log_likelihood(logits, steps), a["out/loglik_per_step"])
    mean, scale = network.start(click, learned)
    close(mean, a["out/h0_mean"])
    close(scale, a["out/h0_scale"])
    terms = network.terms(draw, h0, steps, click, learned, a["batch/phase_mask"], args["num_users"])
    for name, expected in a.items():
        kind, _, latent = name.partition("/")
        if kind == "logp_scaled" and latent not in ("obs", "data"):
            close(terms.log_p[site(latent)], expected)
        if kind == "logq":
            close(terms.log_q[site(latent)], expected)
    close(terms.click, a["logp_scaled/obs"])
    close(terms.elbo, a["elbo_single_draw"])
    scores = network.item_scores(draw, z[:, -1])
    close(scores, a["out/predict_last"])
    count = entry.about["slate_size_K"]

    def ranked(values: Tensor) -> np.ndarray:
        values = values.double().clone()
        values[..., :FIRST] = -np.inf
        return values.detach().numpy()

    assert top(ranked(a["out/predict_last"]), count).tolist() == a["out/topk_single_draw"].tolist()
    assert in_slate(ranked(a["inslate/scores"]), count).tolist() == a["inslate/slate"].tolist()
    as_run = in_slate(ranked(a["inslate/scores_h0_only"]), count)
    assert as_run.tolist() == a["inslate/slate_reference_as_run"].tolist()


@covers("kl_")
def closed_form(entry: Entry) -> None:
    a = tensors(entry)
    groups, items = hierarchy_divergence(
        a["q_item_mean"].double(),
        a["q_item_std"].double(),
        a["q_group_mean"].double(),
        a["q_group_std"].double(),
        a["item_group"].long(),
        a["group_scale_fixed"].double(),
        float(a["prior_group_std"]),
    )
    close(groups, a["kl_group"], 1e-9)
    close(items, a["kl_item_expected"], 1e-9)
    close(groups + items, a["kl_total"], 1e-9)
    filled = torch.arange(a["slate_scores"].shape[1]) < a["slate_len"][:, None]
    logits = a["slate_scores"].double().masked_fill(~filled, -100)
    found = logits.log_softmax(1).gather(1, a["click_idx"].long()[:, None])[:, 0]
    close(found, a["slate_loglik"], 1e-9, 1e-9)


@covers("sasrec_")
def sasrec(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    network = SASRec(
        args["item_num"],
        args["hidden_units"],
        args["maxlen"],
        args["num_blocks"],
        args["num_heads"],
        norm_first=args["norm_first"],
    ).eval()
    network.load_state_dict(entry.weights())
    x = network(a["in/seq"].long())
    close(x, a["out/feats"])
    positive = (x * network.table[a["in/pos"].long()]).sum(-1)
    negative = (x * network.table[a["in/neg"].long()]).sum(-1)
    close(positive, a["out/pos_logits"])
    close(negative, a["out/neg_logits"])
    close(x[:, -1] @ network.table[1:].T, a["out/predict_all"])
    used = a["in/pos"] != 0
    loss = F.softplus(-positive)[used].mean() + F.softplus(negative)[used].mean()
    close(loss, a["out/bce_loss"])


@covers("fmlp_")
def fmlp(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    network = FMLPRec(
        args["item_size"],
        args["hidden_size"],
        args["max_seq_length"],
        args["num_hidden_layers"],
        args["num_attention_heads"],
        filters=not args["no_filters"],
    ).eval()
    network.load_state_dict(entry.weights())
    seq = a["in/seq"].long()
    x = network(seq)
    # where all keys are masked only rounding is left
    rows = seq > 0 if args["no_filters"] else torch.ones_like(seq, dtype=torch.bool)
    close(x[rows], a["out/sequence_output"][rows])
    scores = x[:, -1] @ network.table.T
    close(scores, a["out/scores_last_all"])
    row = torch.arange(len(scores))
    loss = losses.pair_loss(scores[row, a["loss/pos"].long()], scores[row, a["loss/neg"].long()])
    close(loss, a["loss/bce"])
    if "filter/in" in a:
        layer = network.item_encoder.layer[0].filterlayer
        close(layer.filtered(a["filter/in"]), a["filter/pre_norm"])
        close(layer(a["filter/in"], torch.zeros(())), a["filter/out"])


@covers("esasrec_")
def esasrec(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    network = ESASRec(
        args["n_items_with_pad"],
        args["n_factors"],
        args["session_max_len"],
        args["n_blocks"],
        args["n_heads"],
        factor=args["ff_factors_multiplier"],
        mask_padding=args["use_key_padding_mask"],
    ).eval()
    network.load_state_dict(entry.weights())
    seq, target = a["in/x"].long(), a["in/y"].long()
    rows, used = seq > 0, target > 0
    blocks = network.blocks(seq)
    for number, block in enumerate(blocks):
        close(block[rows], a[f"out/block{number}"][rows])
    x = blocks[-1]
    close(x[rows], a["out/session_embs"][rows])
    columns = torch.cat([target[..., None], a["in/negatives"].long()], -1)
    logits = (x[..., None, :] * network.table[columns]).sum(-1)
    close(logits[rows], a["out/pos_neg_logits"][rows])
    close((x @ network.table.T)[:, -1], a["out/logits_last_all"])
    close(losses.full_softmax(x @ network.table.T, target, used), a["loss/softmax"])
    close(losses.bce(logits, used), a["loss/bce"])
    for name, expected in a.items():
        if name.startswith("loss/gbce_t"):
            beta = losses.gbce_beta(args["n_negatives"], args["n_items_with_pad"] - 1, float(name[11:]))
            close(losses.gbce(logits, used, beta), expected)
    loss = losses.sampled_softmax(logits, used)
    close(loss, a["loss/sampled_softmax"])
    loss.backward()
    for name, parameter in network.named_parameters():
        if f"grad/sampled_softmax/{name}" in a:
            assert parameter.grad is not None
            close(parameter.grad, a[f"grad/sampled_softmax/{name}"])


@covers("gbce_")
def generalised_bce(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    used = a["in/y"] > 0
    for items in args["n_items"]:
        for t in args["t"]:
            logits = a["in/logits"].double().requires_grad_()
            beta = losses.gbce_beta(args["n_negatives"], items, float(t))
            case = f"items{items}_t{float(t)}"
            assert beta == pytest.approx(float(a[f"out/beta_{case}"]), rel=1e-9)
            loss = losses.gbce(logits, used, beta)
            loss.backward()
            close(loss, a[f"out/loss_{case}"], 1e-6, 1e-6)
            assert logits.grad is not None
            close(logits.grad, a[f"grad/logits_{case}"], 1e-6, 1e-6)
    close(losses.bce(a["in/logits"], used), a["out/loss_bce"])


@covers("gsasrec_")
def gsasrec(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    network = GSASRec(
        args["num_items"],
        args["embedding_dim"],
        args["sequence_length"],
        args["num_blocks"],
        args["num_heads"],
        tied=args["reuse_item_embeddings"],
    ).eval()
    network.load_state_dict(entry.weights())
    x, weights = network.attend(a["in/x"].long())
    close(x, a["out/hidden"])
    close(x[:, -1] @ network.table.T, a["out/scores_last_all"])
    close(weights[0], a["out/attention0"])
    close(weights[-1], a["out/attention_last"])


@covers("hstu_")
def hstu(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    network = HSTU(
        args["embedding_dim"],
        args["num_heads"],
        args["linear_hidden_dim"],
        args["attention_dim"],
        args["num_blocks"],
        args["max_seq_len"],
        args["num_buckets"],
        concat=args["concat_ua"],
        activation=args["linear_activation"],
    ).eval()
    network.load_state_dict(entry.weights())
    lengths, time = a["in/lengths"].long(), a["in/timestamps"].long()
    rows = torch.arange(a["in/x"].shape[1]) < lengths[:, None]
    pairs = (rows[:, :, None] & rows[:, None]).tril()
    bias = network._attention_layers[0]._rel_attn_bias(time).expand(pairs.shape)  # pyright: ignore
    close(bias[pairs], a["out/bias_block0"].expand(pairs.shape)[pairs])
    layers = network.layers(a["in/x"], lengths, time)
    for number, layer in enumerate(layers):
        close(layer[rows], a[f"out/block{number}"][rows])
    close(layers[-1][rows], a["out/y"][rows])


@covers("gru4rec_")
def gru4rec(entry: Entry) -> None:
    a, args = tensors(entry), entry.args
    network = GRU4Rec(
        args["n_items"],
        args["layers"],
        constrained=args["constrained_embedding"],
        embedding=args.get("embedding", 0),
    ).eval()
    network.load_state_dict(entry.weights())
    items = a["in/items"].long()
    state = network.initial_state(items.shape[1])
    for t, clicks in enumerate(items):
        x, state = network.step(clicks, state)
        close(network.scores(x), a[f"out/scores_t{t}"])
        for layer, h in enumerate(state):
            close(h, a[f"out/h{layer}_t{t}"])
    start = tuple(a[f"loss/h_in{layer}"] for layer in range(len(args["layers"])))
    x, _ = network.step(a["loss/X"].long(), start)
    scores = network.scores(x, a["loss/Y"].long())
    close(scores, a["loss/R"])
    alpha = 0.75 if "sample_alpha=0.75" in entry.key else 1.0
    often = a["loss/P0_counts"][a["loss/Y"].long()].log()
    chance = torch.cat([often[: len(scores)], alpha * often[len(scores) :]])
    close(losses.in_batch_softmax(scores), a["loss/xe_logq0"])
    close(losses.in_batch_softmax(scores, chance), a["loss/xe_logq1"])
    for name, expected in a.items():
        if name.startswith("loss/bprmax_"):
            elu, reg = name.split("_")[1:]
            close(losses.bpr_max(scores, float(reg[3:]), float(elu[3:])), expected)


@covers("ranking_")
def ranking(entry: Entry) -> None:
    a = entry.arrays()
    ks = sorted({int(name.rpartition("@")[2]) for name in a if "@" in name})
    multi = at_relevance(a["scores"], a["relevance"], ks)
    graded = at_relevance(a["scores"], a["graded"], ks)
    ranks = rank_of(a["scores"], a["target"])
    assert (ranks == a["rank"]).all()
    single = at_ranks(ranks, ks)
    for name, expected in a.items():
        _, kind, figure = [*name.split("/"), "", ""][:3]
        if kind == "multi":
            assert multi[figure].mean() == pytest.approx(float(expected), abs=1e-6)
        if kind == "graded":
            assert graded[figure].mean() == pytest.approx(float(expected), abs=1e-6)
        if kind == "loo":
            assert single[figure] == pytest.approx(float(expected), abs=1e-6)


SHRUNK = ("switch_dr", "dr_os", "sg_ipw", "sg_dr")


def estimates(log: offline.Actions, q: np.ndarray, clip: float, number: float) -> dict[str, float]:
    """Every estimator by the reference's name."""
    return {
        "ipw": offline.ips_rows(log, clip).mean(),
        "snipw": offline.snips(log),
        "dm": offline.dm_rows(log, q).mean(),
        "dr": offline.dr_rows(log, q, clip).mean(),
        "sndr": offline.sndr_rows(log, q).mean(),
        "switch_dr": offline.switch_dr_rows(log, q, number).mean(),
        "dr_os": offline.dros_rows(log, q, number or 1.0).mean(),
        "sg_ipw": offline.sg_ips_rows(log, number).mean(),
        "sg_dr": offline.sg_dr_rows(log, q, number).mean(),
    }


@covers("ope_single")
def single_actions(entry: Entry) -> None:
    a = entry.arrays()
    log = offline.Actions(a["reward"], a["action"], a["pscore"], a["action_dist"], a["position"])
    q = a["q_hat"]
    for name, expected in a.items():
        if not name.startswith("est/"):
            continue
        way, _, value = name[4:].rpartition("_")
        clip = float(value[4:]) if value.startswith("clip") else np.inf
        if not value.startswith("clip") and not value.replace(".", "").isdigit():
            way = name[4:]
        if way == "replay_deterministic":
            sure = offline.Actions(
                a["reward"], a["action"], a["pscore"], a["action_dist_deterministic"], a["position"]
            )
            near(offline.replay(sure), expected)
            continue
        number = float(value) if way in SHRUNK else 0.0
        found = estimates(log, q, clip, number)[way]
        near(found, expected)


@covers("ope_slate")
def slates(entry: Entry) -> None:
    a = entry.arrays()
    count, actions = entry.args["len_list"], entry.args["n_unique_action"]

    def by_slot(name: str) -> np.ndarray:
        return a[name].reshape(-1, count)

    log = offline.SlateLog(
        by_slot("reward"),
        by_slot("pscore"),
        by_slot("pscore_cascade"),
        by_slot("pscore_item_position"),
        by_slot("eval_pscore"),
        by_slot("eval_pscore_cascade"),
        by_slot("eval_pscore_item_position"),
    )
    for name, found in offline.slate_estimates(log).items():
        near(found, a[f"est/{name}"])
    q = a["q_hat"].reshape(-1, count, actions)
    taken = np.take_along_axis(q, a["action"].reshape(-1, count, 1), 2)[..., 0]
    expected = (q * a["eval_action_dist"].reshape(q.shape)).sum(2)
    near(offline.cascade_dr(log, taken, expected), a["est/cascade_dr"])
