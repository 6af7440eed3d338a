"""Maps that live at the same time share no memory, and lie close together."""

from hypothesis import given, settings
from hypothesis import strategies as st
from larq_nobn.deploy.c._memory import Block, plan

BLOCKS = st.lists(
    st.builds(
        lambda size, first, more: Block(size, first, first + more),
        st.integers(1, 300),
        st.integers(0, 40),
        st.sampled_from([0, 1, 1, 2, 3, 10, 30]),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=25)
@given(BLOCKS)
def test_no_two_that_live_at_once_share_a_word(blocks):
    starts, size = plan(blocks)
    for time in range(80):
        used = [
            word
            for start, block in zip(starts, blocks, strict=True)
            if block.first <= time <= block.last
            for word in range(start, start + block.size)
        ]
        assert len(used) == len({*used})
        assert max(used, default=0) < size


@settings(max_examples=25)
@given(BLOCKS)
def test_memory_is_near_the_largest_sum(blocks):
    sums = (
        sum(block.size for block in blocks if block.first <= time <= block.last)
        for time in range(80)
    )
    assert plan(blocks)[1] <= 1.1 * max(sums)


def test_what_follows_takes_the_same_place():
    assert plan([Block(8, 0, 1), Block(4, 1, 2), Block(8, 2, 3)]) == ([0, 8, 0], 12)
