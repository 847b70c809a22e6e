"""Drawings: nothing lies on anything else, edges point down, equal graphs are drawn alike."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from partitioner.report.layout import NODE_HEIGHT, NODE_WIDTH, Drawing, lay_out


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    count = draw(st.integers(1, 25))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    edges = {(min(p), max(p)): None for p in draw(st.lists(pairs, max_size=60)) if p[0] != p[1]}
    return count, list(edges)


@given(graphs())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_nodes_are_apart_and_edges_point_down(graph: tuple[int, list[tuple[int, int]]]):
    count, edges = graph
    drawn = lay_out(count, edges)
    assert count == len(drawn.places)
    assert len(edges) == len(drawn.bends)
    for (start, end), bends in zip(edges, drawn.bends, strict=True):
        heights = [drawn.places[start][1], *(y for _, y in bends), drawn.places[end][1]]
        assert sorted(set(heights)) == heights
    for index, (x, y) in enumerate(drawn.places):
        assert NODE_WIDTH / 2 <= x <= drawn.width - NODE_WIDTH / 2
        assert NODE_HEIGHT / 2 <= y <= drawn.height - NODE_HEIGHT / 2
        for other_x, other_y in drawn.places[:index]:
            assert abs(x - other_x) >= NODE_WIDTH or abs(y - other_y) >= NODE_HEIGHT


def test_nothing_is_drawn_of_nothing():
    assert Drawing(0, 0, (), ()) == lay_out(0, [])


def test_a_chain_is_a_straight_line():
    drawn = lay_out(6, [(i, i + 1) for i in range(5)])
    assert 1 == len({x for x, _ in drawn.places})


def test_a_long_edge_goes_beside_what_it_passes():
    drawn = lay_out(5, [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)])
    assert 3 == len(drawn.bends[-1])
    for x, y in drawn.bends[-1]:
        (passed,) = [place for place in drawn.places if place[1] == y]
        assert abs(passed[0] - x) >= NODE_WIDTH / 2


def test_what_nothing_leads_to_stands_above_its_first_reader():
    drawn = lay_out(4, [(0, 1), (1, 3), (2, 3)])
    assert drawn.places[2][1] == drawn.places[1][1]


def test_long_edges_have_points_for_a_bounded_number_only():
    count = 300
    drawn = lay_out(
        count, [(i, i + 1) for i in range(count - 1)] + [(0, i) for i in range(2, count)]
    )
    assert sum(map(len, drawn.bends)) <= 6 * count
