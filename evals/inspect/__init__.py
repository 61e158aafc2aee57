"""The evals under inspect-ai: our models as its models, its models in our agents, the task."""
