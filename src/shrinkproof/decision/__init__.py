"""Which candidates are worth having, and which one to take: fronts, rules and the choice."""
