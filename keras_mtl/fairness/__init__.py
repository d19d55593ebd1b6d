"""Fairness: what groups get from each task, and ways to even it out in training."""

from keras_mtl.fairness.adversary import Adversary
from keras_mtl.fairness.covariance_penalty import CovariancePenalty
from keras_mtl.fairness.demographic_parity_gap import DemographicParityGap
from keras_mtl.fairness.equal_opportunity_gap import EqualOpportunityGap
from keras_mtl.fairness.equalized_odds_gap import EqualizedOddsGap
from keras_mtl.fairness.group_rates import group_rates
from keras_mtl.fairness.mmd_penalty import MMDPenalty
from keras_mtl.fairness.parity_penalty import ParityPenalty
from keras_mtl.fairness.relative import average_relative_error, average_relative_gap

__all__ = [
    "Adversary",
    "CovariancePenalty",
    "DemographicParityGap",
    "EqualOpportunityGap",
    "EqualizedOddsGap",
    "MMDPenalty",
    "ParityPenalty",
    "average_relative_error",
    "average_relative_gap",
    "group_rates",
]
