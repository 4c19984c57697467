"""The TransFusion head: queries are maxima, look at what is near, and learn boxes one to one."""

import torch

from vision.pointcloud.models.transfusion_head import CODES, LocalDecoder, TransFusionHead

BOUNDS, VOXEL = (0.0, -8.0, -3.0, 16.0, 8.0, 1.0), (0.5, 0.5, 0.25)
TRUTH = torch.tensor(
    [
        [5.2, 1.3, -1, 4.0, 2.0, 1.5, 0.4, 3.0, -1.0, 0.0],
        [12.0, -4, -1, 0.8, 0.6, 1.7, 2.0, float("nan"), 0, 1],
    ]
)


def head(queries: int = 12) -> TransFusionHead:
    torch.manual_seed(0)
    sizes = {"width": 16, "queries": queries, "neighbourhood": 9, "heads": 2, "inner": 16}
    return TransFusionHead(6, 2, BOUNDS, VOXEL, stride=1, small=(1,), **sizes)


def test_queries_are_the_best_maxima_of_their_classes() -> None:
    model = head().eval()
    said = model(torch.randn(1, 6, 32, 32))
    heat = said.heat.sigmoid()[0]
    for kind, cell, score in zip(said.kinds[0], said.cells[0], said.first[0], strict=True):
        y, x = divmod(int(cell), 32)
        assert torch.isclose(heat[kind, y, x], score)
        if kind == 0:
            part = heat[0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            assert heat[0, y, x] == part.max()
    assert (said.first[0].diff() <= 0).all()


def test_a_query_sees_its_neighbourhood_and_nothing_else() -> None:
    torch.manual_seed(0)
    decoder = LocalDecoder(8, 2, 8, 3).eval()
    queries, cells = torch.randn(1, 1, 8), torch.tensor([[10 * 20 + 10]])
    features = torch.randn(1, 8, 20, 20)
    far, near = features.clone(), features.clone()
    far[..., 14:] += 5
    near[..., 10, 13] += 5
    base = decoder(queries, cells, features)
    torch.testing.assert_close(decoder(queries, cells, far), base)
    assert not torch.allclose(decoder(queries, cells, near), base)
    corner = decoder(queries, torch.tensor([[0]]), features)  # beyond the border there is nothing to see
    assert corner.isfinite().all()


def test_codes_come_back_as_boxes() -> None:
    model = head()
    boxes = TRUTH[:1, :9]
    torch.testing.assert_close(model.boxes(model.codes(boxes)), boxes, atol=1e-5, rtol=1e-5)


def test_a_perfect_answer_has_no_box_loss_and_everything_learns() -> None:
    model = head()
    said = model(torch.randn(2, 6, 32, 32))
    losses = model.loss(said, [TRUTH, TRUTH[:0]])
    assert all(value.isfinite() for value in losses.values())  # an unknown velocity asks nothing
    losses["loss"].backward()
    assert all(part.grad is not None for part in model.parameters())
    codes = model.codes(TRUTH[:1])
    start = 0
    for name in CODES:
        width = said.values[name].shape[2]
        said.values[name].data[0, 0] = codes[0, start : start + width]
        start += width
    said.values["iou"].data.fill_(1.0)
    queries, truths = model.matched(said, 0, TRUTH[:1])
    assert (queries.tolist(), truths.tolist()) == ([0], [0])
    perfect = model.loss(said, [TRUTH[:1], TRUTH[:0]])
    assert perfect["box"].item() < 1e-5
    assert perfect["iou"].item() < 1e-3


def test_a_scene_is_learnt_by_heart() -> None:
    model = head()
    x = torch.randn(1, 6, 32, 32)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(model(x), [TRUTH])["loss"].backward()
        optimizer.step()
    boxes, scores, kinds = model.decode(model(x))[0]
    for row in TRUTH:
        mine = kinds == int(row[-1])
        best = boxes[mine][scores[mine].argmax()]
        assert (best[:2] - row[:2]).norm() < 0.7
