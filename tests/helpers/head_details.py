"""Small sizes of every head, of which ``make_network`` takes those of its own."""

OF_HEAD = {
    "scalar": (),
    "c51": ("atoms", "value_min", "value_max"),
    "qr": ("quantiles",),
    "iqn": ("iqn_cosines", "iqn_policy_samples", "iqn_cvar"),
}


def of_head(head, details):
    """Those of the details that belong to that head, or to none."""
    others = {n for h, names in OF_HEAD.items() if h != head for n in names}
    return {name: value for name, value in details.items() if name not in others}
