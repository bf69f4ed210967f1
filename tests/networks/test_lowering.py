import pytest

from autoprivacy.common.errors import BadInput
from autoprivacy.networks import zoo
from autoprivacy.networks.graph import (
    INPUT,
    Add,
    AvgPool,
    Conv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    ReLU,
    ReLU6,
    Reshape,
)
from autoprivacy.networks.lowering import Rounding, factors, flows, lower
from autoprivacy.networks.quantisation import shared_inputs


def conv(name: str, source: str, channels: int = 2) -> Conv2d:
    return Conv2d(name, (source,), channels, (3, 3), padding=(1, 1, 1, 1))


def maxpool(name: str, source: str) -> MaxPool:
    return MaxPool(name, (source,), (2, 2), (2, 2))


def avgpool(name: str, source: str, size: int = 2) -> AvgPool:
    return AvgPool(name, (source,), (size, size), (size, size))


def network(*layers: Layer) -> Network:
    """Ended by a Flatten and a Linear, "fc"."""
    end = Flatten("flat", (layers[-1].name,)), Linear("fc", ("flat",), 3)
    return Network("net", (2, 12, 12), (*layers, *end))


def lowered(*layers: Layer) -> list[str]:
    """Nodes as NAME(INPUTS), roundings as NAME<=SOURCE with + if not negative."""
    found = []
    for node in lower(network(*layers)).nodes:
        if isinstance(node, Rounding):
            cap = "6" if node.capped else ""
            found.append(f"{node.name}<={node.inputs[0]}{'+' if node.rectified else ''}{cap}")
        else:
            found.append(f"{node.name}({','.join(node.inputs)})")
    return found[:-2]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        # An activation rounds; what reads it reads integers.
        ((conv("a", INPUT), ReLU("r", ("a",))), "a(input) r<=a+"),
        ((conv("a", INPUT), ReLU6("r", ("a",))), "a(input) r<=a+6"),
        # Linear to linear: rounded in between, signed.
        ((conv("a", INPUT), conv("b", "a"), ReLU("r", ("b",))), "a(input) a.rounded<=a b(a.rounded) r<=b+"),
        # A max pool reads integers; followed by a ReLU alone, both are one circuit.
        ((conv("a", INPUT), maxpool("p", "a"), ReLU("r", ("p",))), "a(input) r<=a+ p(r)"),
        ((conv("a", INPUT), maxpool("p", "a"), conv("b", "p"), ReLU("r", ("b",))),
         "a(input) a.rounded<=a p(a.rounded) b(p) r<=b+"),
        ((conv("a", INPUT), ReLU("r", ("a",)), maxpool("p", "r")), "a(input) r<=a+ p(r)"),
        # A view and an activation exchange, too.
        ((conv("a", INPUT), Reshape("v", ("a",), (2, 144, 1)), ReLU("r", ("v",))), "a(input) r<=a+ v(r)"),
        # A mean of integers is read as it is; one of accumulators is rounded after it.
        ((conv("a", INPUT), ReLU("r", ("a",)), avgpool("p", "r"), conv("b", "p"), ReLU("s", ("b",))),
         "a(input) r<=a+ p(r) b(p) s<=b+"),
        ((conv("a", INPUT), avgpool("p", "a"), conv("b", "p"), ReLU("s", ("b",))),
         "a(input) p(a) p.rounded<=p b(p.rounded) s<=b+"),
        ((conv("a", INPUT), ReLU("r", ("a",)), avgpool("p", "r"), maxpool("m", "p")),
         "a(input) r<=a+ p(r) p.rounded<=p+ m(p.rounded)"),
        # A ReLU on what is not negative does nothing, nor does a ReLU6 on what is at most 6.
        ((conv("a", INPUT), ReLU("r", ("a",)), ReLU("s", ("r",)), conv("b", "s")), "a(input) r<=a+ b(r) b.rounded<=b"),
        ((conv("a", INPUT), ReLU6("r", ("a",)), maxpool("p", "r"), ReLU6("s", ("p",))), "a(input) r<=a+6 p(r)"),
        ((conv("a", INPUT), ReLU("r", ("a",)), ReLU6("s", ("r",))), "a(input) r<=a+ s<=r+6"),
        # The input is not known to be positive.
        ((ReLU("r", (INPUT,)), conv("a", "r"), ReLU("s", ("a",))), "r<=input+ a(r) s<=a+"),
        # Residual: the sum is rounded at its ReLU, and what skips is what the convolution reads.
        ((conv("a", INPUT), ReLU("r", ("a",)), conv("b", "r"), Add("s", ("b", "r")), ReLU("t", ("s",))),
         "a(input) r<=a+ b(r) s(b,r) t<=s+"),
        # Linear bottlenecks: one signed tensor enters the convolution and the sum.
        ((conv("a", INPUT), conv("b", "a"), Add("s", ("b", "a")), conv("c", "s"), ReLU("t", ("c",))),
         "a(input) a.rounded<=a b(a.rounded) s(b,a.rounded) s.rounded<=s c(s.rounded) t<=c+"),
        # Pre-activation: the trunk stays an accumulator.
        ((conv("a", INPUT), ReLU("r", ("a",)), conv("b", "r"), Add("s", ("a", "b")), ReLU("t", ("s",))),
         "a(input) r<=a+ b(r) s(a,b) t<=s+"),
        # Sums of what is not negative are not negative.
        ((conv("a", INPUT), ReLU("r", ("a",)), ReLU("u", (INPUT,)), Add("s", ("r", "u")), ReLU("t", ("s",)),
          conv("b", "t"), ReLU("v", ("b",))),
         "a(input) r<=a+ u<=input+ s(r,u) s.rounded<=s+ b(s.rounded) v<=b+"),
    ],
)  # fmt: skip
def test_tensors_are_rounded_where_they_must_be(layers: tuple[Layer, ...], expected: str) -> None:
    # Behind it all stand the Flatten and the Linear that `network` adds; a last accumulator is rounded before them.
    found = lowered(*layers)
    assert " ".join(found[: len(expected.split())]) == expected
    assert all("rounded<=" in each for each in found[len(expected.split()) :])


def test_a_rounding_takes_no_name_that_is_there() -> None:
    nodes = lowered(conv("a", INPUT), conv("a.rounded", "a"), ReLU("r", ("a.rounded",)))
    assert nodes == ["a(input)", "a.rounded_<=a", "a.rounded(a.rounded_)", "r<=a.rounded+"]


def test_layers_that_read_one_tensor_are_told_together() -> None:
    net = network(
        conv("a", INPUT),
        ReLU("r", ("a",)),
        conv("b", "r"),
        maxpool("p", "r"),
        conv("c", "p"),
        conv("d", INPUT),
        Add("s", ("b", "d")),
        ReLU("t", ("s",)),
        maxpool("q", "t"),
        Add("u", ("c", "q")),
    )
    assert shared_inputs(net) == (("a", "d"), ("b", "c"), ("fc",))
    # What only sums read takes the widths of the layers downstream; the mean of all goes to the last layer.
    assert lower(net).readers["t"] == ("fc",)
    resnet = zoo.architecture("resnet20")
    groups = shared_inputs(resnet)
    assert sorted(layer for group in groups for layer in group) == sorted(x.name for x in resnet.linear_layers)
    assert [group for group in groups if len(group) > 1] == [
        ("stage2.block1.conv1", "stage2.block1.shortcut"),
        ("stage3.block1.conv1", "stage3.block1.shortcut"),
    ]


def test_a_tensor_that_only_logits_follow_has_the_width_of_the_last_layer() -> None:
    net = Network("net", (2, 1, 1), (Flatten("f", (INPUT,)), Linear("a", ("f",), 3), ReLU("r", ("a",))))
    assert lower(net).readers == {INPUT: ("a",), "r": ("a",)}


def test_accumulators_flow_to_their_roundings_and_logits_need_one_step() -> None:
    net = network(
        conv("a", INPUT),
        conv("b", INPUT),
        Add("s", ("a", "b")),
        avgpool("p", "s"),
        ReLU("r", ("p",)),
        ReLU("t", ("a",)),
        avgpool("q", "t"),
        Add("u", ("r", "q")),
    )
    found = {name: [each.name for each in flow.roundings] for name, flow in flows(net, lower(net).nodes).items()}
    assert found == {"a": ["r", "t"], "b": ["r"], "fc": []}
    steps = {name: flow.one_step for name, flow in flows(net, lower(net).nodes).items()}
    assert steps == {"a": False, "b": False, "fc": True}
    cut = Network(
        "cut",
        (4, 1, 1),
        (
            Flatten("f", (INPUT,)),
            Linear("a", ("f",), 4),
            Reshape("v", ("a",), (2, 2, 1)),
            avgpool("p", "v", 1),
            ReLU("r", ("p",)),
            Flatten("g", ("r",)),
            Linear("fc", ("g",), 2),
        ),
    )
    assert all(flow.one_step for flow in flows(cut, lower(cut).nodes).values())


def test_factors_are_what_powers_of_two_leave_of_means() -> None:
    net = network(avgpool("p", INPUT, 6), conv("a", "p"), ReLU("r", ("a",)), avgpool("q", "r", 2))
    found = {name: str(factor) for name, factor in factors(lower(net).nodes).items()}
    assert found == dict.fromkeys((INPUT, "a", "r", "q", "flat", "fc"), "1") | {"p": "1/9"}


def test_means_over_unlike_windows_cannot_be_added() -> None:
    same = AvgPool("p", (INPUT,), (3, 3), (1, 1), (1, 1, 1, 1))
    net = network(same, Add("s", ("p", INPUT)))
    with pytest.raises(BadInput, match=r"'s'.*p: 1/9, input: 1/1"):
        factors(lower(net).nodes)
    assert set(factors(lower(network(same, Add("s", ("p", "p")))).nodes).values())
