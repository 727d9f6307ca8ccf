"""`cfgbench claims`: published claims about guidance, the rule that decides each of them, and what our records say.

Rules are pure functions of records, written down before the experiments that they judge were run. Nothing here needs
torch.
"""
