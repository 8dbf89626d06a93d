"""What a study will cost: what there is to do, what each piece takes here, and both together."""

from shrinkproof.study.estimate.costs import Estimate, Stage, estimate_of
from shrinkproof.study.estimate.probe import estimate_study
from shrinkproof.study.estimate.rates import Rates
from shrinkproof.study.estimate.work import Work, work_of

__all__ = ["Estimate", "Rates", "Stage", "Work", "estimate_of", "estimate_study", "work_of"]
