"""Learned agents: how they are trained, kept and loaded.

A trained agent is the weights of a row network (``tyche_env.network``), so it runs inside the simulator's loop and in
the real controller without torch.  Training needs the extra ``train``; loading and running do not.
"""
