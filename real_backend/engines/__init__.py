"""Container engines behind one interface: plain processes and Docker."""
