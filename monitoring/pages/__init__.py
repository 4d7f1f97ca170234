"""A class for each address, and the facts that it shows. Who acts from a page acts through `acting`."""
