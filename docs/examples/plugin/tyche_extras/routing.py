"""A routing rule: a function's requests go round the nodes, each to the next one."""

from tyche_env.rules import RoutingRule


def rule(st, function):
    """The node of a request that has just been counted; if that node is full, another one is taken."""
    return (function + st.functions[function].arrivals) % len(st.nodes)


round_robin = RoutingRule(rule)
