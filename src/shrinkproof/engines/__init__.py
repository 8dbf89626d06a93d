"""Where the work happens; adding an engine is one line here."""

from shrinkproof.registry import Registry

ENGINES = Registry(
    "engine",
    "shrinkproof.engines",
    {
        "inline": "shrinkproof.engines.inline:Inline",
        "processes": "shrinkproof.engines.processes:Processes",
        "ray": "shrinkproof.engines.ray:Ray",
    },
)
