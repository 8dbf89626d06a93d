"""How candidates are measured; adding an evaluator is one line here."""

from shrinkproof.registry import Registry

EVALUATORS = Registry(
    "evaluator",
    "shrinkproof.evaluators",
    {
        "fidelity": "shrinkproof.evaluators.fidelity:Fidelity",
        "latency": "shrinkproof.evaluators.latency:Latency",
        "saliency": "shrinkproof.evaluators.saliency:Saliency",
        "scores": "shrinkproof.evaluators.scores:Scores",
        "size": "shrinkproof.evaluators.size:Size",
    },
)
