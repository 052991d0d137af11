//! Tables of patterns, subjects and expected groups.
