//! HTTP to one device: one kept connection, one request at a time, every size and time bounded.
//!
//! It stands on the connection of `hyper` without its pool: that parses HTTP with limits, follows no redirect, knows no
//! proxy and decodes nothing. The connection is driven by the request that uses it, so no task is needed, and a
//! connection that the device closed while it was idle is seen before anything is sent.

mod connection;
mod cookie;
mod link;
mod reply;
mod token;

pub(crate) use self::{connection::NOT_HTTP, cookie::Cookie, link::HttpLink, reply::HttpReply, token::token};
