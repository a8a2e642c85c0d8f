"""Where in an image: features of places in the space of images and texts, in one pass.

`encode_dense` of geovlm's encoders gives, beside the vector of each image, one of each of its patches:

| image tower | features of a place |
| --- | --- |
| CLIP's ViT | the last block's attention replaced by that of like to like, its residual and feed-forward dropped |
| ViT that averages its patches | the projection without the average |
| ViT with an attention-pooling head (SigLIP) | the head on the place alone: the path of its values |
| CLIP's ResNet | the values of its attention pooling, projected |
| ConvNeXt | the projection without the average |
| ResNet | the same, of the mean of four neighbours, whose middle is that of the place |

Sources: for CLIP's ViT, the sum of softmax(qq), softmax(kk) and softmax(vv) of SegEarth-OV (Li et al., CVPR 2025,
arXiv 2410.01768), which joins SCLIP (Wang, Mei & Yuille, ECCV 2024, arXiv 2312.01597) with ClearCLIP (Lan et al., ECCV
2024, arXiv 2407.12442): of the methods without training and without a second model, it is the one that those of
remote sensing are measured against. For values: MaskCLIP (Zhou, Loy & Dai, ECCV 2022, arXiv 2112.01071); on SigLIP's
head TextRegion (Xiao et al., 2025, arXiv 2505.23769) with a region of one patch. For averages: class activation maps
(Zhou et al., CVPR 2016, arXiv 1512.04150).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geovlm.errors import UsageError

if TYPE_CHECKING:
    from typing import TypeGuard

    from numpy.typing import NDArray

    from geovlm.protocols import DenseEncoder, Encoder, Vectors

__all__ = ["is_dense", "remove_global_bias"]


def is_dense(encoder: Encoder) -> TypeGuard[DenseEncoder]:
    """Whether an encoder tells where: whether it has `encode_dense`, and an image tower that can.

    Args:
        encoder: Any.

    Examples:
        >>> from geovlm.testing.fakes import HashEncoder
        >>> is_dense(HashEncoder())
        False
    """
    return hasattr(encoder, "encode_dense") and hasattr(encoder, "patch_size")


def remove_global_bias(cells: NDArray[np.float32], vectors: Vectors, *, strength: float = 0.3) -> NDArray[np.float32]:
    """Take what patches share with their whole image out of them.

    In CLIP's ViTs each patch carries some of the class token, so that everything in an image of a harbour looks a
    little like a harbour. Products with texts are those of the patch minus `strength` times those of the image; 0.3 is
    what SegEarth-OV (Li et al., CVPR 2025, arXiv 2410.01768) uses for all its data sets.

    Args:
        cells: Of `encode_dense`: `(n, rows, columns, dim)`.
        vectors: Of `encode_dense`: `(n, dim)`.
        strength: How much is taken; 0 changes nothing.

    Returns:
        Features `(n, rows, columns, dim)`, to be multiplied with the vectors of texts as they are: no longer of length
        1, so that products are not cosines.

    Raises:
        UsageError: The shapes do not belong together, or the strength is below 0.

    Examples:
        >>> cells = np.full((1, 2, 2, 4), 0.5, dtype=np.float32)
        >>> remove_global_bias(cells, np.full((1, 4), 0.5, dtype=np.float32), strength=0.5)[0, 0, 0]
        array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    if cells.ndim != 4 or vectors.shape != (cells.shape[0], cells.shape[3]):
        raise UsageError(
            f"Cells (n, rows, columns, dim) and vectors (n, dim) of one call of encode_dense belong together; these"
            f" have the shapes {cells.shape} and {vectors.shape}."
        )
    if strength < 0:
        raise UsageError(f"The strength of what is taken out is at least 0, not {strength}.")
    return cells - np.float32(strength) * vectors[:, None, None]
