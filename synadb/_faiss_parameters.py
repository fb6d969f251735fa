"""What a search tells a FAISS index, by the kind of index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["nearest"]


def nearest(
    faiss: Any,
    index: Any,
    queries: NDArray[np.float32],
    k: int,
    selector: Any,
    given: dict[str, Any],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """FAISS's own distances and rows, of those that the selector passes; -1 where there are none.

    Where the kind of index takes no selector, more is asked for until enough remains.
    """
    import numpy as np

    try:
        raw, ids = index.search(queries, k, params=_parameters(faiss, index, selector, given))
    except RuntimeError:
        if selector is None:
            raise
    else:
        return raw, ids
    how = _parameters(faiss, index, None, given)
    total, wanted = index.ntotal, 2 * k
    passes = np.array([*(selector.is_member(row) for row in range(total)), False])
    most = min(k, int(passes.sum()))
    while True:
        raw, ids = index.search(queries, min(wanted, total), params=how)
        good = passes[ids]
        if wanted >= total or (good.sum(axis=1) >= most).all():
            break
        wanted *= 2
    order = np.argsort(~good, axis=1, kind="stable")[:, :k]
    raw, ids, good = (np.take_along_axis(part, order, axis=1) for part in (raw, ids, good))
    short = k - ids.shape[1]
    ids = np.pad(np.where(good, ids, -1), ((0, 0), (0, short)), constant_values=-1)
    return np.pad(raw, ((0, 0), (0, short))), ids


def _parameters(faiss: Any, index: Any, selector: Any, given: dict[str, Any]) -> Any:
    """Parameters of a search in the class that the index wants, those around another too.

    `faiss` is the module. `given` has `nprobe`, `ef_search` and `k_factor` as far as they were
    given; the others are the index's own. None where nothing is to be said: some kinds of index
    refuse even that.
    """
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        inner = _parameters(faiss, index.index, selector, given)
        return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = _parameters(faiss, index.base_index, selector, given)
        factor = given.get("k_factor", index.k_factor)
        return faiss.IndexRefineSearchParameters(base_index_params=inner, k_factor=factor)
    own: dict[str, Any] = {"sel": selector} if selector is not None else {}
    if isinstance(index, faiss.IndexIVF):
        own["nprobe"] = given.get("nprobe", index.nprobe)
        return faiss.SearchParametersIVF(**own)
    if isinstance(index, faiss.IndexHNSW):
        own["efSearch"] = given.get("ef_search", index.hnsw.efSearch)
        return faiss.SearchParametersHNSW(**own)
    return faiss.SearchParameters(**own) if own else None
