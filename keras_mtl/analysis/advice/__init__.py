"""Share or not, how much and with which weighting: `advise` and what it is made of."""
