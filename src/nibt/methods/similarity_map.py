r"""The similarity map of late interaction, as in ColPali (Faysse et al., ICLR 2025, arXiv 2407.01449).

$$\text{score}_j = \sum_i q_i \cdot d_j \quad \text{for patch } j$$

$$\text{score}_i = \max_j q_i \cdot d_j \quad \text{for token } i$$

$q$ and $d$ are the vectors of the query and of the image, one for each token of their prompts. The scores of a query's
tokens add up to the similarity.

With tiles, the similarity of a cell of the overview is divided among the patches that it covers, and added to theirs.

Answers:
    Which patches have vectors that are like those of the query; for a query, how well each token is matched.

Use it when:
    You compare with other packages for these models.

Avoid it when:
    You want to know why the model answers as it does. A vector is not its patch: attention moves content between
    patches before the vectors are made, and only the best match of each query token enters the similarity.
"""

from dataclasses import dataclass

from nibt.core.side import Side
from nibt.methods._attention import score_vectors
from nibt.methods.base import Method
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class SimilarityMap(Method):
    """The similarity of each token's own vector."""

    paper = "Faysse et al., ICLR 2025, arXiv 2407.01449"
    category = "other"
    cost = "1"
    needs = ("vectors",)

    def attribute(self, side: Side) -> Attribution:
        scores, units = score_vectors(side.trace.embedding, side.score), side.units
        return Attribution.of_rows(scores, units)
