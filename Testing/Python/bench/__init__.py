"""``make bench``: the loop without its network, beside the ordinary Python stack."""
