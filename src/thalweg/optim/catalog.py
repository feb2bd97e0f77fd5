"""The names of this library's own `torch.optim.Optimizer`s that need no closure, and where they are."""

OPTIMIZERS = {
    "soap": "thalweg.optim.soap.SOAP",
    "shampoo": "thalweg.optim.shampoo.Shampoo",
    "polar-muon": "thalweg.optim.muon.PolarMuon",
    "normuon": "thalweg.optim.muon.NorMuon",
}

MOST_PAIRS = 10_000  # of steps and gradients that either L-BFGS keeps, and of iterations in a step
