//! Who calls: a provider's token becomes a `Verified` principal, or an error.
