"""Containers of the own platform behind one interface: plain processes and Docker."""
