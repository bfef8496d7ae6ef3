"""A local variable is followed to the network's output and the piece of it that it is."""

import ast

import pytest

from patches.rewrites.flow import Flow, Piece

SECOND = Piece("self.net", 1, (("n", 1),), (("n", 2),), fresh=False)


def flow(body, arguments="self, x, n, t"):
    tree = ast.parse(f"def f({arguments}):\n" + "".join(f"    {line}\n" for line in body.splitlines()))
    return Flow(tree.body[0])


@pytest.mark.parametrize(
    "body",
    [
        "f = self.net(x)\ns = f[:, n:2*n]",
        "f = self.net(x)\nm, s = f[:, :n], f[:, n : n * 2, ...]",
        "s = self.net(x)[:, n:n + n].float()",
        "f = self.net.forward(x)\nm, s, r = torch.split(f, n, dim=1)",
        "m, s, r = self.net(x).split([n, n, self.width], 1)",
        "f = self.net(x)\ns: Tensor = f[:, n:2*n]",
        "f = self.net(x)\nr = f[:, n:2*n]\ns = r\ns = s + np.log(t)",
        "f = self.net(x)\nif t:\n    s = f[:, n:2*n]\nelse:\n    s = f[:, n:2*n] - 1",
        "f = self.net(x)\nfor i in t:\n    s = f[:, n:2*n]\n    s += 1",
        "k = self.n\nf = self.net(x)\ns = f[:, k:k * 2]",
        "f = self.net(x)\ns = f[:, n:2*n] if t else f[:, n:2*n].contiguous()",
        "with a:\n    f = self.net(x)\ns = torch.ones_like(f) + f[:, n:2*n]",
    ],
)
def test_piece_of_a_networks_output(body):
    assert flow(body).names["s"] == SECOND


@pytest.mark.parametrize(
    "body",
    [
        *("s = x", "s = torch.exp(self.net(x))", "s = net(x)", "s = s + 1", "s = self.net(x) * 2", "pass"),
        *("s = self.net(x)[:, n:2*n] * 0.5", "s = -self.net(x)[:, n:2*n]", "s = self.net(x)[:, n:2*n] + x"),
        *("s = self.net(x)[:, n:2*n] + self.bias", "s = 1 - self.net(x)[:, n:2*n]", "s = self.net(x)[:, n:-1]"),
        "f = self.net(x)\nwhile t:\n    s = f[:, n:2*n]\n    f = f * 2",
        "f = self.net(x)\ns = f[:, n:2*n]\nif t:\n    s = f[:, :n]",
    ],
)
def test_anything_else_is_none(body):
    assert not isinstance(flow(body).names.get("s"), Piece)


@pytest.mark.parametrize("other, apart", [(":n", True), ("2 * n:", True), ("2*n:3*n", True), ("n:", False), (":m", False), ("2:4", False)])
def test_pieces_are_apart_whatever_the_sizes_are(other, apart):
    assert flow(f"s = self.net(x)[:, {other}]").names["s"].is_apart(SECOND) is apart


def test_pieces_without_a_name_and_outputs_used_whole_are_open():
    found = flow("f = self.net(x)\ng(f[:, n:2*n])\nh(f)\nr = f.shape\ns = f[:, :n]").open
    assert sorted(map(ast.unparse, found)) == ["f", "f[:, n:2 * n]"]
