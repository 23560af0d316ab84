"""What a plan would measure, without measuring it."""

from collections.abc import Iterator

from nibt.errors import BadInput
from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.validation import check_plugins, open_data, random_methods


def dry_run(plan: Plan) -> Iterator[str]:
    """Check a plan without a model, and yield lines about what it would measure, and about data that are missing."""
    check_plugins(plan)
    for key, choices in {"models": plan.models, "methods": plan.methods, "metrics": plan.metrics}.items():
        yield f"{key} ({len(choices)}): {', '.join(choice.label for choice in choices)}"
    for key, values in {"targets": plan.targets, "sides": plan.sides, "seeds": plan.seeds}.items():
        yield f"{key}: {', '.join(map(str, values))}"
    draws = random_methods(plan.methods)
    explanations = 0
    for choice in plan.data:
        try:
            length = len(open_data(choice))
        except BadInput as error:
            yield f"data {choice.label}: missing ({error})"
            continue
        for model in plan.models:
            explanations += sum(plan.count(cell.method, length) for cell in plan.cells(model, choice, draws))
        yield f"data {choice.label}: {min(length, plan.first or length):,} pairs"
    yield f"explanations of each side: {explanations:,}"
