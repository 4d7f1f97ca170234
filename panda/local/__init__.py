"""A PanDA installation on one machine: its stores, its processes, and what watches over them."""
