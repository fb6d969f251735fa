"""What a search tells a FAISS index, by the kind of index."""

from __future__ import annotations

from typing import Any

__all__ = ["parameters"]


def parameters(faiss: Any, index: Any, selector: Any, given: dict[str, Any]) -> Any:
    """Parameters of a search in the class that the index wants, those around another too.

    `faiss` is the module. `given` has `nprobe`, `ef_search` and `k_factor` as far as they were
    given; the others are the index's own.
    """
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        inner = parameters(faiss, index.index, selector, given)
        return faiss.SearchParametersPreTransform(index_params=inner)
    if isinstance(index, faiss.IndexRefine):
        inner = parameters(faiss, index.base_index, selector, given)
        factor = given.get("k_factor", index.k_factor)
        return faiss.IndexRefineSearchParameters(base_index_params=inner, k_factor=factor)
    own: dict[str, Any] = {"sel": selector} if selector is not None else {}
    if isinstance(index, faiss.IndexIVF):
        own["nprobe"] = given.get("nprobe", index.nprobe)
        return faiss.SearchParametersIVF(**own)
    if isinstance(index, faiss.IndexHNSW):
        own["efSearch"] = given.get("ef_search", index.hnsw.efSearch)
        return faiss.SearchParametersHNSW(**own)
    return faiss.SearchParameters(**own)
