//! The Kubernetes API: a dialect of HTTP.

mod body;
mod command;
mod json;
mod mask;
mod query;
mod request;
