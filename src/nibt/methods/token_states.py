"""Methods that read what each token of the last layers, or each vector, stands for by itself."""

from dataclasses import dataclass

from nibt.core.side import Side
from nibt.methods._attention import score_vectors
from nibt.methods.base import Method
from nibt.results.attribution import Attribution


@dataclass(frozen=True)
class SimilarityMap(Method, name="similarity_map"):
    r"""The similarity map of late interaction, as in ColPali (Faysse et al., ICLR 2025, arXiv 2407.01449).

    $$\text{score}_j = \sum_i q_i \cdot d_j \quad \text{for patch } j$$

    $$\text{score}_i = \max_j q_i \cdot d_j \quad \text{for token } i$$

    $q$ and $d$ are the vectors of the query and of the image, one for each token of their prompts. The scores of a
    query's tokens add up to the similarity.

    If the processor splits an image into tiles and an overview, the similarity of a cell of the overview is divided
    among the patches that it covers, and added to theirs.

    Shows:
        For the image, which patches have vectors that are similar to those of the query. For the query, how similar the
        best patch is to each token.

    Use it when:
        You compare with other packages for late-interaction models.

    Avoid it when:
        You want to know why the model gives this similarity. The vector of a patch also has content of other patches,
        since attention moves content between patches. And only the best patch of each query token counts in the
        similarity.
    """

    paper = "Faysse et al., ICLR 2025, arXiv 2407.01449"
    category = "other"
    cost = "1"
    needs = ("vectors",)

    def attribute(self, side: Side) -> Attribution:
        return Attribution.of_rows(score_vectors(side.trace.embedding, side.score), side.units)
