"""The densest of many candidates that fit, found without looking at all of them.

The candidates of a node stand in a row, in order of the memory that a load needs: those that fit are its beginning.
Above the row, as in a tournament, stands the better one of each two neighbours, then of each two of those, up to one:
a candidate whose density changes plays its matches again, and the best of a beginning of the row is the best of a few
winners.  Both take log n steps.  Where candidates are few, looking at all of them is faster; ``packing.fill`` does so.
"""

from __future__ import annotations

from tyche_env.control.compiled import apart, inner
from tyche_env.state import ClusterState


@inner
def better(st: ClusterState, a: int, b: int) -> int:
    """That one of two slots whose function is denser, or the first of equals; a slot below 0 is nobody."""
    if a < 0 or b < 0:
        return max(a, b)
    if st.candidate_density[a] != st.candidate_density[b]:
        return a if st.candidate_density[a] > st.candidate_density[b] else b
    return a if st.candidate_function[a] < st.candidate_function[b] else b


@inner
def entrant(st: ClusterState, first: int, count: int, place: int) -> int:
    """The slot at a place of a tournament: ``count`` and on are the row itself, 1 is the winner of all."""
    return first + place - count if place >= count else st.winners[first + place]


@apart
def play_again(st: ClusterState, function: int) -> None:
    """The density of a function has changed: what that changes in its node's tournament."""
    row = st.functions[function]
    count = row.rivals
    first = st.nodes[row.home_node].candidate_first
    place = (row.slot - first + count) >> 1
    while place >= 1:
        two = 2 * place
        winner = better(st, entrant(st, first, count, two), entrant(st, first, count, two + 1))
        if winner == st.winners[first + place] and winner != row.slot:
            return
        st.winners[first + place] = winner
        place >>= 1


@apart
def densest_that_fits(st: ClusterState, node: int, free_mb: int) -> int:
    """The densest candidate of a node, the first among equals, whose load needs no more memory; or -1."""
    n = st.nodes[node]
    first = n.candidate_first
    count = n.candidate_end - first
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if st.candidate_peak_mb[first + middle] <= free_mb:
            low = middle + 1
        else:
            high = middle
    begin, end = count, count + low
    best = -1
    while begin < end:
        if begin & 1:
            best = better(st, best, entrant(st, first, count, begin))
            begin += 1
        if end & 1:
            end -= 1
            best = better(st, best, entrant(st, first, count, end))
        begin >>= 1
        end >>= 1
    if best >= 0 and st.candidate_density[best] > 0:
        return best
    return -1
