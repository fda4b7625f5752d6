"""Learned agents: how they are trained, kept and loaded.

Most trained agents are the weights of a row network (``tyche_env.network``), so they run inside the simulator's loop
and in the real controller without torch.  What cannot be one, such as a recurrent policy, is asked through torch.
Training needs the extra ``train``; loading and running a row network do not.
"""
