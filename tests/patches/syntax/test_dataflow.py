"""A local variable is followed to the network's output and the piece of it that it is."""

import libcst as cst
import pytest

from patches.syntax.dataflow import Origin, definitions, origin

PIECE = "[:,n:2*n]"


@pytest.mark.parametrize(
    "body, piece",
    [
        ("f = self.net(x)\ns = f[:, n:2*n]", PIECE),
        ("f = self.net(x)\nm, s = f[:, :n], f[:, n : 2 * n]", PIECE),
        ("s = self.net(x)[:, n:2*n].float()", PIECE),
        ("m, s = self.net(x).chunk(2, dim=1)", ".chunk(2,1)[1]"),
        ("m, s = torch.chunk(self.net(x), 2, 1)", ".chunk(2,1)[1]"),
        ("m, s = self.net(x)", "[1]"),
        ("f = self.net(x)\ns: Tensor = f[:, n:2*n]", PIECE),
        ("f = self.net(x)\ns = f[:, n:2*n]\ns = s + 1", PIECE),
        ("(m, s) = self.net(x).split(n, dim=1)", ".split(n,1)[1]"),
    ],
)
def test_piece_of_a_networks_output(body, piece):
    module = cst.parse_module("def f(self, x, n):\n" + "".join(f"    {line}\n" for line in body.splitlines()))
    assert origin(module, definitions(module.body[0]), cst.Name("s")) == Origin("self.net", piece)


@pytest.mark.parametrize(
    "body", ["s = x", "s = torch.exp(self.net(x))", "s = net(x)", "s = s + 1", "s = self.net(x) * 2", "pass"]
)
def test_anything_else_has_no_origin(body):
    module = cst.parse_module(f"def f(self, x):\n    {body}\n")
    assert origin(module, definitions(module.body[0]), cst.Name("s")) is None


def test_definitions_come_in_the_order_of_the_text_and_inner_functions_have_their_own():
    lines = ["b = 1", "if a:", "    b += 2", "g = lambda b: b", "def h():", "    b = 3"]
    module = cst.parse_module("def f(a):\n" + "".join(f"    {line}\n" for line in lines))
    found = definitions(module.body[0])
    assert [module.code_for_node(d.statement).strip() for d in found["b"]] == ["b = 1", "b += 2"]
