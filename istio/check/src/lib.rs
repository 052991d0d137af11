//! Holds the objects of Istio that the product writes against types generated from Istio's CRDs: see `tests/objects.rs`.
