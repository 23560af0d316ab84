"""Notes of explanations that the sides themselves give."""

import nibt
from nibt.results.explanation import Explanation


def test_a_map_with_the_other_sign_than_its_difference_is_noted() -> None:
    """With a blank image, the model prefers a cat to a small cat by 0.30; the image lowers this to 0.04."""
    explanation = nibt.explain("scenes", "sample:scene", "a cat", against="a small cat", variant="fast")
    assert isinstance(explanation, Explanation)
    assert explanation.image.path is not None
    assert float(explanation.image.path.at_input) > 0 > float(explanation.image.path.sum)
    assert "baseline_decides:image" in explanation.codes
    plain = nibt.explain("scenes", "sample:scene", "a cat", against="a key", variant="fast")
    assert isinstance(plain, Explanation)
    assert not any(code.startswith("baseline_decides") for code in plain.codes)
